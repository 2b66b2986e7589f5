"""Launch files given to the engine they are for: its own parser and validators, in an environment with the engine.

    python benchmarks/launch_files.py vllm FOLDER...    # folders that `planner export --to vllm` wrote; vLLM 0.24.0
    python benchmarks/launch_files.py sglang FOLDER...  # SGLang 0.5.23

Every part of every replica is read as its container would start it, on the platform that engine_validators.py plays;
no weights are loaded, the shipped config.json stands in for the checkpoint. Exit code 1 if anything is refused.
"""

import argparse
import contextlib
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import engine_validators as engines

from planner import resources, yaml_io
from planner.catalog import load_architecture

ADDRESS = "127.0.0.1"


def starts(folder: Path, config: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield every service of a folder: its name, its model, and its command line."""
    for path in sorted(folder.glob("*.compose.yaml")):
        if path.name.startswith("front."):
            continue
        for name, service in yaml_io.load(path).data["services"].items():
            own = next(v for v in service["volumes"] if v.endswith(":/launch:ro")).split(":")[0]
            words = [word.replace("/launch", str(folder / own)) for word in service["command"]]
            model = yaml_io.load(folder / own / config).data
            yield (
                f"{folder.name}: {name}",
                str(model.get("model") or model["model-path"]),
                [re.sub(r"\$\{[A-Z0-9_]+\}", ADDRESS, word) for word in words],
            )


def stand_in(model: str, folder: Path) -> str:
    """Return where a config.json of a model's architecture lies; one in another format is known by its suffix."""
    published = model if not model.startswith("/") else re.sub(r"-(fp8|int8|int4|fp4|bf16)$", "", Path(model).name)
    name = load_architecture(published).value.name
    return str(resources.shipped("architectures") / name)


def vllm_reader() -> Callable[[list[str], str], None]:
    """Return what vLLM does with a command line before it loads weights."""
    engines.vllm_judge()
    from vllm.engine.arg_utils import AsyncEngineArgs  # type: ignore[import-not-found]
    from vllm.entrypoints.openai.cli_args import make_arg_parser  # type: ignore[import-not-found]
    from vllm.utils.argparse_utils import FlexibleArgumentParser  # type: ignore[import-not-found]

    def run(words: list[str], model: str) -> None:
        parser = make_arg_parser(FlexibleArgumentParser())
        parsed = parser.parse_args(["serve", *words])
        parsed.model, parsed.skip_tokenizer_init = model, True
        drafts = parsed.speculative_config
        if drafts and drafts.get("model"):
            drafts["model"] = model
        AsyncEngineArgs.from_cli_args(parsed).create_engine_config(headless=parsed.headless)

    return run


def sglang_reader() -> Callable[[list[str], str], None]:
    """Return what SGLang does with a command line before it loads weights."""
    engines.sglang_judge()
    from sglang.srt.server_args import prepare_server_args  # type: ignore[import-not-found]

    def run(words: list[str], model: str) -> None:
        more = ["--model-path", model, "--skip-tokenizer-init", "--device", "cuda"]
        arguments = prepare_server_args([*words, *more])
        arguments.resolve_once()
        arguments.check_server_args()

    return run


READERS = {"vllm": ("vllm.yaml", vllm_reader), "sglang": ("sglang.yaml", sglang_reader)}


def main() -> int:
    parser = argparse.ArgumentParser(description="Give launch files to their engine's parser and validators.")
    parser.add_argument("engine", choices=sorted(READERS))
    parser.add_argument("folders", nargs="+", type=Path)
    chosen = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "CRITICAL",
                   "CUDA_VISIBLE_DEVICES": ""}  # fmt: skip
    logging.disable(logging.CRITICAL)
    config, reader = READERS[chosen.engine]
    run, refused, total = reader(), 0, 0
    for folder in chosen.folders:
        for name, model, words in starts(folder.resolve(), config):
            total += 1
            try:
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    run(words, stand_in(model, folder))
            except (Exception, SystemExit) as error:
                refused += 1
                print(f"refused: {name}: {type(error).__name__}: {error}")
    print(f"{total - refused} of {total} starts accepted by {chosen.engine}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
