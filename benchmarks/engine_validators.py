"""Random configurations judged by an engine's own validators and by its rules here.

    python benchmarks/engine_validators.py vllm    # in an environment with vLLM 0.24.0 and the planner
    python benchmarks/engine_validators.py sglang  # in one with SGLang 0.5.23

What runs is the engine's own code, from its installed package or from ``--source PATH``, unpacked and put first:

- vLLM: ``EngineArgs.create_engine_config``, so ModelConfig, ParallelConfig, CacheConfig, SchedulerConfig,
  SpeculativeConfig, VllmConfig and what each model adds to them.
- SGLang: ``ServerArgs`` with its whole resolution pipeline, then ``check_server_args``.

Neither needs a GPU: the platform is one that says it has H100s, and compiled extensions that do not load without a
driver are stood in for by empty modules. So what the engines check only later, when weights are loaded or the first
step runs, is not compared; rules that come from there show among those that only the planner refuses.

A configuration that the planner calls legal and the engine refuses is a failure, and the exit code is 1. The other way
round is counted by rule: each such rule is meant, and says in planner/engines where it was read. Both sides say nothing
of configurations that cannot be written down for the engine (vLLM: an ep that is neither 1 nor all); these are drawn
again. Memory and load are not looked at.
"""

import argparse
import contextlib
import importlib.abc
import importlib.machinery
import io
import itertools
import logging
import os
import random
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from planner import catalog, resources
from planner.columns.engine_rules import engine_rules
from planner.columns.setting import Setting, lone_setting
from planner.schema.precision import FORMATS

Drawn = dict[str, Any]
Judge = Callable[[str, Drawn], str | None]
LIMIT = 12
JUDGED = {
    "vllm": "EngineArgs.create_engine_config",
    "sglang": "ServerArgs.resolve_once and check_server_args",
}
LENGTHS = (4096, 16384)
DEVICES = 4096  # of the platform that is played: more than any configuration takes


def draw(random_: random.Random, experts: int, drafts: bool, precision: str, sizes: tuple[int, ...]) -> Drawn:
    """Draw a configuration: around the searched grid, half of the rarer choices left alone, some odd numbers."""

    def rarely(plain: Any, *others: Any) -> Any:
        return plain if random_.random() < 0.6 else random_.choice(others)

    tp = random_.choice((1, 2, 4, 4, 8, 8, 16, 32, 3, 6, 12))
    dp = rarely(1, 2, 4, 8, 16)
    ep = random_.choice((1, tp * dp)) if experts else rarely(1, 1, tp * dp)
    mixed, chunked = rarely((1, 1), (1, 0), (0, 1), (0, 0))
    return {
        "tp": tp,
        "pp": rarely(1, 2, 4, 8, 3, 40),
        "attention_dp": dp,
        "ep": ep if random_.random() < 0.9 else max(1, tp * dp // 2),
        "context_parallel": rarely(1, 2, 4, 8),
        "redundant_experts": rarely(0, 1, 8, 16, 32),
        "block_size": rarely(sizes[0], *sizes, 8, 24, 48),
        "kv_precision": rarely("bf16", "fp8"),
        "weight_precision": rarely(precision, "fp8") if precision == "bf16" else precision,
        "speculative_tokens": rarely(0, 1, 2, 3, 5) if drafts else 0,
        "max_num_batched_tokens": random_.choice((256, 1000, 2048, 8192, 16384, 20000)),
        "max_num_seqs": random_.choice((8, 64, 256, 1024, 4096)),
        "mixed_steps": mixed,
        "chunked": chunked,
    }


def refusals(setting: Setting, drawn: list[Drawn]) -> list[list[str]]:
    """Return the names of the rules that each configuration breaks, those on memory left out."""
    values = {
        name: np.array([float(d[name]) for d in drawn])
        for name in drawn[0]
        if not name.endswith("_precision") and name != "role"
    }
    for name in ("weight_precision", "kv_precision"):
        values[name] = np.array([float(tuple(FORMATS).index(d[name])) for d in drawn])
    values["devices"] = values["tp"] * values["pp"] * values["attention_dp"]
    found: list[list[str]] = [[] for _ in drawn]
    for rule in engine_rules(setting):
        if rule.name != "longest_request_fits":
            broken = np.broadcast_to(rule.broken(setting, values), len(drawn))
            for i in np.flatnonzero(broken):
                found[i].append(rule.name)
    return found


class _Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for compiled extensions that need a driver."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname.startswith(self.names):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__path__ = []
        module.__getattr__ = _nothing  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def _nothing(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return mock.MagicMock(name=name)


def play_vllm() -> None:
    """Let vLLM be imported where there is no GPU: on a platform that says it has H100s."""
    names = ("_C", "_moe_C", "_qutlass_C", "_flashmla_C", "vllm_flash_attn")
    sys.meta_path.insert(0, _Absent(tuple(f"vllm.{name}" for name in names)))
    import vllm.platforms as platforms  # type: ignore[import-not-found]
    from vllm.platforms.cuda import CudaPlatformBase  # type: ignore[import-not-found]
    from vllm.platforms.interface import DeviceCapability  # type: ignore[import-not-found]

    class Played(CudaPlatformBase):  # type: ignore[misc]
        get_device_capability = classmethod(lambda cls, device_id=0: DeviceCapability(9, 0))
        get_device_name = classmethod(lambda cls, device_id=0: "NVIDIA H100 80GB HBM3")
        get_device_total_memory = classmethod(lambda cls, device_id=0: 80 * 2**30)
        is_fully_connected = classmethod(lambda cls, device_ids: True)
        device_count = classmethod(lambda cls: DEVICES)

    platforms._current_platform = Played()
    import vllm._custom_ops as ops  # type: ignore[import-not-found]
    from vllm.model_executor.models import registry  # type: ignore[import-not-found]

    for name in dir(ops):
        if "supports" in name or "is_supported" in name:
            setattr(ops, name, lambda *args, **kwargs: True)
    registry._run_in_subprocess = lambda inspect: inspect()


def vllm_judge() -> tuple[str, Judge]:
    """Return vLLM's version and its judgement: why it refuses a configuration, or None."""
    play_vllm()
    import vllm  # type: ignore[import-not-found]
    from vllm.engine.arg_utils import EngineArgs  # type: ignore[import-not-found]

    def judge(model: str, d: Drawn) -> str | None:
        fp8 = {"quantization": "fp8"} if d["weight_precision"] == "fp8" and not d["stored"] else {}
        drafts = {"method": d["drafts"], "num_speculative_tokens": d["speculative_tokens"]}
        roles = {"prefill": "kv_producer", "decode": "kv_consumer"}
        handed = {"kv_connector": "NixlConnector", "kv_role": roles.get(d["role"])}
        return _reason(
            lambda: EngineArgs(
                model=model, skip_tokenizer_init=True, max_model_len=d["max_model_len"],
                tensor_parallel_size=d["tp"], pipeline_parallel_size=d["pp"], data_parallel_size=d["attention_dp"],
                enable_expert_parallel=d["ep"] > 1, decode_context_parallel_size=d["context_parallel"],
                enable_eplb=d["redundant_experts"] > 0,
                eplb_config={"num_redundant_experts": d["redundant_experts"]},
                block_size=None if d["block_size"] == d["default_block"] else d["block_size"],
                kv_cache_dtype="auto" if d["kv_precision"] == "bf16" else "fp8",
                speculative_config=drafts if d["speculative_tokens"] else None,
                kv_transfer_config=handed if d["role"] in roles else None,
                max_num_batched_tokens=d["max_num_batched_tokens"],
                max_num_seqs=-(-d["max_num_seqs"] // d["attention_dp"]),
                enable_chunked_prefill=bool(d["chunked"]), **fp8,
            ).create_engine_config()
        )  # fmt: skip

    return vllm.__version__, judge


def play_sglang() -> None:
    """Let SGLang be imported where there is no GPU: with a PyTorch that says it has H100s."""
    sys.meta_path.insert(0, _Absent(("sgl_kernel", "flashinfer", "deep_gemm", "flash_attn", "flash_mla")))
    import torch  # type: ignore[import-not-found]

    memory = 80 * 2**30
    device = types.SimpleNamespace(
        name="NVIDIA H100", total_memory=memory, multi_processor_count=132, major=9, minor=0,
        shared_memory_per_block_optin=232448,
    )  # fmt: skip
    played = {
        "is_available": True, "get_device_capability": (9, 0), "device_count": 1, "current_device": 0,
        "get_device_name": "NVIDIA H100 80GB HBM3", "mem_get_info": (memory, memory), "get_device_properties": device,
    }  # fmt: skip
    for name, value in played.items():
        setattr(torch.cuda, name, lambda *args, _value=value, **kwargs: _value)


def sglang_judge() -> tuple[str, Judge]:
    """Return SGLang's version and its judgement: why it refuses a configuration, or None."""
    play_sglang()
    from sglang.srt.server_args import ServerArgs  # type: ignore[import-not-found]
    from sglang.version import __version__  # type: ignore[import-not-found]

    def judge(model: str, d: Drawn) -> str | None:
        drafts = {
            "speculative_algorithm": "EAGLE", "speculative_num_steps": d["speculative_tokens"],
            "speculative_eagle_topk": 1, "speculative_num_draft_tokens": d["speculative_tokens"] + 1,
        }  # fmt: skip
        page = {} if d["block_size"] == d["default_block"] else {"page_size": d["block_size"]}
        fp8 = {"quantization": "fp8"} if d["weight_precision"] == "fp8" and not d["stored"] else {}
        spares = {"enable_eplb": True, "ep_num_redundant_experts": d["redundant_experts"]}

        def run() -> None:
            arguments = ServerArgs(
                model_path=model, skip_tokenizer_init=True, device="cuda", context_length=d["max_model_len"],
                tp_size=d["tp"] * d["attention_dp"], attn_dp_size=d["attention_dp"], pp_size=d["pp"], ep_size=d["ep"],
                dcp_size=d["context_parallel"],
                kv_cache_dtype="auto" if d["kv_precision"] == "bf16" else "fp8_e4m3",
                chunked_prefill_size=d["max_num_batched_tokens"] * d["attention_dp"] if d["chunked"] else -1,
                enable_mixed_chunk=bool(d["mixed_steps"]), max_running_requests=d["max_num_seqs"],
                disaggregation_mode="null" if d["role"] == "mixed" else d["role"],
                **page, **fp8, **(drafts if d["speculative_tokens"] else {}),
                **(spares if d["redundant_experts"] else {}),
            )  # fmt: skip
            arguments.resolve_once()
            arguments.check_server_args()

        return _reason(run)

    return __version__, judge


def _reason(run: Callable[[], Any]) -> str | None:
    """Run a validator quietly and return the last line of its refusal, None where it accepts."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            run()
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip() and "errors.pydantic.dev" not in line]
        text = (lines[-1] if lines else "").strip()
        return f"{type(error).__name__}: {text}"[:300]
    return None


def stated(engine: str, d: Drawn, experts: int) -> bool:
    """Tell whether a configuration can be written down for the engine at all."""
    if engine == "vllm":
        whole = d["ep"] in (1, d["tp"] * d["attention_dp"])
        return whole and d["mixed_steps"] == 1 and (d["attention_dp"] == 1 or experts > 0)
    return (d["mixed_steps"], d["chunked"]) != (1, 0)


def compare(engine: str, version: str, judge: Judge, count: int, seed: int) -> int:
    """Judge ``count`` configurations on both sides, print the outcome, and return the failures."""
    random_ = random.Random(seed)
    loaded = catalog.load_engine(engine).value
    hardware, efficiencies = catalog.load_hardware("h100-sxm").value, catalog.load_efficiencies("textbook").value
    usable = list(_usable(engine, judge))
    tally: Counter[str] = Counter()
    wrong: Counter[tuple[str, str]] = Counter()
    strict: Counter[tuple[str, ...]] = Counter()
    cells = list(itertools.product(usable, LENGTHS, ("mixed", "prefill", "decode")))
    for index, ((name, drafts, stored), length, role) in enumerate(cells):
        architecture = catalog.load_architecture(name).value
        setting = lone_setting(
            architecture, hardware, loaded, version, efficiencies, isl=length // 2, osl=length // 2, longest=length,
            acceptance=(0.5,) * 5 if drafts else (),
        )  # fmt: skip
        setting = setting._replace(role=role)
        drawn: list[Drawn] = []
        while len(drawn) < count * (index + 1) // len(cells) - count * index // len(cells):
            d = draw(random_, architecture.num_experts, drafts is not None, architecture.precision,
                     loaded.block_sizes.value)  # fmt: skip
            d["role"] = role
            if stated(engine, d, architecture.num_experts):
                drawn.append(d)
        model = str(resources.shipped("architectures") / name)
        for d, ours in zip(drawn, refusals(setting, drawn), strict=True):
            extra = {"max_model_len": length, "drafts": drafts, "stored": stored}
            theirs = judge(model, d | extra | {"default_block": loaded.block_size.value})
            tally[f"planner {'refuses' if ours else 'accepts'}, {engine} {'refuses' if theirs else 'accepts'}"] += 1
            if theirs and not ours:
                wrong[theirs, f"{name} {d}"] += 1
            if ours and not theirs:
                strict[tuple(sorted(ours))] += 1
    _report(engine, version, usable, tally, wrong, strict)
    return sum(wrong.values())


def _usable(engine: str, judge: Judge) -> Iterator[tuple[str, str | None, bool]]:
    """Yield models that the engine accepts plainly, with their drafts and whether they are stored quantised."""
    plain: Drawn = {
        "tp": 1, "pp": 1, "attention_dp": 1, "ep": 1, "context_parallel": 1, "redundant_experts": 0, "block_size": 0,
        "default_block": 0, "kv_precision": "bf16", "weight_precision": "bf16", "speculative_tokens": 0, "chunked": 1,
        "mixed_steps": catalog.load_engine(engine).value.scheduling.prefill.value == "mixed",
        "max_num_batched_tokens": 8192, "max_num_seqs": 64, "max_model_len": 2048, "stored": True, "role": "mixed",
        "drafts": None,
    }  # fmt: skip
    for name in catalog.architecture_names():
        reason = judge(str(resources.shipped("architectures") / name), plain)
        if reason:
            print(f"left out: {name}: {reason[:150]}")
            continue
        architecture = catalog.load_architecture(name).value
        yield name, "mtp" if architecture.num_nextn_predict_layers else None, architecture.precision != "bf16"


def _report(
    engine: str, version: str, usable: list[Any], tally: Counter[str], wrong: Counter[Any], strict: Counter[Any]
) -> None:
    print(f"judged by {JUDGED[engine]}, on a platform that says it has H100s; no model was loaded")
    print(f"{engine} {version}, {len(usable)} models: {', '.join(name for name, *_ in usable)}")
    for text, number in sorted(tally.items()):
        print(f"{number:7d}  {text}")
    print(f"failures, accepted by the planner and refused by {engine}: {sum(wrong.values())}")
    by_reason: dict[str, list[str]] = {}
    for reason, where in wrong:
        by_reason.setdefault(reason[:90], []).append(where)
    for reason, places in sorted(by_reason.items(), key=lambda item: -len(item[1]))[:LIMIT]:
        print(f"  {len(places)}: {reason}\n     {places[0]}")
    print(f"refused by the planner, accepted by {engine}: {sum(strict.values())}; by rule, alone and with others:")
    alone = Counter({rules[0]: number for rules, number in strict.items() if len(rules) == 1})
    shared: Counter[str] = Counter()
    for rules, number in strict.items():
        shared.update(dict.fromkeys(rules, number))
    for rule, number in shared.most_common():
        print(f"{alone[rule]:7d} {number - alone[rule]:7d}  {rule}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare an engine's own validators with the planner's rules.")
    parser.add_argument("engine", choices=("vllm", "sglang"))
    parser.add_argument("--count", type=int, default=10_000, help="configurations (10000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--source", type=Path, help="unpacked package of the engine, used before an installed one")
    options = parser.parse_args()
    if options.source:
        sys.path.insert(0, str(options.source))
    os.environ |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "CRITICAL",
                   "CUDA_VISIBLE_DEVICES": ""}  # fmt: skip
    logging.disable(logging.CRITICAL)
    version, judge = vllm_judge() if options.engine == "vllm" else sglang_judge()
    return 1 if compare(options.engine, version, judge, options.count, options.seed) else 0


if __name__ == "__main__":
    sys.exit(main())
