"""What NVIDIA AIConfigurator 0.12.0 predicts for measured serving runs, as a peer to `planner predict`.

    python benchmarks/accuracy/peer.py MEASURED.csv OUT.csv [--environment FOLDER] [--disagg] [--hybrid]

Builds a virtual environment of its own once (`aiconfigurator` and `aiconfigurator-core` 0.12.0 from PyPI, which bring
models, engine and tables), runs peer_run.py there, and writes `id,ttft_ms,tpot_ms,status,reason`. MEASURED has the
columns of benchmarks/data/silicon_dev.csv, with --disagg those of its sister with prefill and decode apart.

Each row is one `cli_estimate`, the function behind its command `estimate`, in mode `agg`:

- passed: model, system, backend, tp, pp, attention_dp, moe_tp, ep; batch = concurrency / attention_dp, rounded up; isl
  and osl, times 0.9 where a run draws its lengths from [0.8, 1.0] of the nominal ones (1.0 scores the same);
- weights: the checkpoint of that precision where the peer ships its configuration, else modes by name. gpt-oss has its
  own (bf16 with mxfp4 experts; on Blackwell under TensorRT-LLM with mxfp8 activations, as its search chooses);
- KV cache: fp8 under TensorRT-LLM and for the Llama 70B fp8 checkpoint, else the engines' default, bf16, and fp8 where
  that is refused;
- left at its defaults: tables of its one current version per backend (trtllm 1.3.0rc20, sglang 0.5.14, vllm 0.24.0; it
  rejects the versions that were measured), SILICON database mode, context tokens = isl (8192 scores worse), no
  speculation, kernels and memory fractions;
- not passed, as it knows no such input: how the load arrives, the spread of lengths, the engine's version.

Several modes can describe one precision. Those in peer_run.py were picked for the least median TPOT error on
silicon_dev.csv, so on these rows the choice flatters the peer: what the checkpoints alone say has 28 % instead of
13 % mean TPOT error on core rows, mostly from its tables of block-scaled fp8 under vLLM. Besides, comments in its
vLLM backend say that two constants of its TTFT were calibrated on its own corpus of such runs.

Rows it raises an error for are `refused`, with the start of its message; `batch beyond its KV cache` repeats its
warning. --hybrid lets it estimate where its tables hold nothing (gpt-oss under TensorRT-LLM): more rows, larger errors.
With --disagg, a row is mode `disagg`: replicas, parallelism, decode batch = concurrency over decode ranks, prompts
prefilled one by one. Its measurements of whole runs are not read; only the tables that its code itself opens are.
"""

import argparse
import subprocess
import venv
from pathlib import Path

import platformdirs

VERSION = "0.12.0"
PACKAGES = [f"aiconfigurator=={VERSION}", f"aiconfigurator-core=={VERSION}"]
RUNNER = Path(__file__).with_name("peer_run.py")


def environment(folder: Path) -> Path:
    """Return the Python of the peer's environment, built if it is not there."""
    python = folder / "bin" / "python"
    built = folder / f"aiconfigurator-{VERSION}.built"
    if not built.exists():
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        built.touch()
    return python


def main() -> None:
    """Build the environment where needed and answer every row in it."""
    default = Path(platformdirs.user_cache_dir("llm-deployment-planner"), f"aiconfigurator-{VERSION}")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measured", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--environment", type=Path, default=default, metavar="FOLDER", help="default: %(default)s")
    parser.add_argument("--disagg", action="store_true", help="rows with prefill and decode apart")
    parser.add_argument("--hybrid", action="store_true", help="let it estimate where its tables hold nothing")
    options = parser.parse_args()
    flags = [f"--{name}" for name in ("disagg", "hybrid") if getattr(options, name)]
    command = [environment(options.environment), RUNNER, options.measured, options.out, *flags]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
