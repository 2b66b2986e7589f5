"""Faulty inputs end with exit code 2 and one line per fault: file, line, column, field, what would be right."""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from typer.testing import CliRunner

from planner import resources
from planner.catalog import load_architecture
from planner.cli import app
from planner.errors import EXIT_BAD_INPUT, InputError

QUICKSTART = (resources.shipped("scenarios") / "quickstart.yaml").read_text(encoding="utf-8")
HARDWARE = (resources.shipped("hardware_specs") / "h100-sxm.yaml").read_text(encoding="utf-8")
CALIBRATION = (resources.shipped("hardware_specs/calibrations") / "textbook.yaml").read_text(encoding="utf-8")
CONFIG = (resources.shipped("architectures") / "Qwen3-32B" / "config.json").read_text(encoding="utf-8")

SEARCH_FIELDS = (
    "attention_dp, block_size, context_parallel, ep, kv_precisions, max_num_batched_tokens, max_num_seqs, "
    "mean_running, overlaps, pp, prefill_policies, prefill_utilisation, redundant_experts, roles, "
    "speculative_tokens, tp"
)
LOAD_FORMS = "write 'max', a rate like '12 /s', or '{concurrency: 256}'"
Change = tuple[str, str]


def changed(text: str, *changes: Change) -> str:
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
        text = text.replace(old, new)
    return text


def place(text: str, needle: str) -> str:
    """Return ``line:column`` of a piece of text that occurs once; an empty one is the start of the file."""
    assert not needle or text.count(needle) == 1, f"{needle!r} occurs {text.count(needle)} times"
    before = text[: text.index(needle)]
    return f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


class Refused(NamedTuple):
    lines: list[str]
    folder: Path


def refused(
    folder: Path, scenario: str | bytes | None, files: Mapping[str, str | bytes] = {}, arguments: Sequence[str] = ()
) -> Refused:
    """Solve a faulty scenario, check how the command ends, and return what it says."""
    for name, content in {"scenario.yaml": scenario, **files}.items():
        if content is not None:
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    out = folder / "plan.json"
    result = CliRunner().invoke(app, ["solve", str(folder / "scenario.yaml"), "--out", str(out), *arguments])
    assert isinstance(result.exception, SystemExit), f"ended with {result.exception!r}"
    assert result.exit_code == EXIT_BAD_INPUT, result.output
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert not out.exists()
    assert {path.name for path in folder.iterdir()} <= {"scenario.yaml", *files}, "something was left behind"
    return Refused(result.stderr.splitlines(), folder)


class Fault(NamedTuple):
    """What is written instead, the text at the place reported, and the message."""

    id: str
    changes: Sequence[Change]
    at: str
    message: str


def fault(id: str, old: str, new: str, at: str, message: str) -> Fault:
    return Fault(id, [(old, new)], at, message)


NAME_LINE = place(QUICKSTART, "name: quickstart").split(":")[0]
ATLAS = [("hardware: h100-sxm", "hardware: ascend-910b3"), ("name: vllm,", "name: vllm-ascend,")]

SCENARIO_FAULTS = [
    # Fields that are missing or not known.
    fault("field-missing", "    model: chat\n", "", "chat:\n", "workloads.chat.model: is required"),
    fault("schema-version-missing", "schema_version: 1\n", "", "", "schema_version: is required"),
    fault("objective-missing", "objective: {maximize: requests}", "# none", "", "objective: is required"),
    fault(
        "field-in-slo",
        "{ttft: 1 s",
        "{tftf: 1 s",
        "tftf",
        "workloads.chat.slo.tftf: unknown field; did you mean 'ttft'?",
    ),
    fault(
        "field-in-inventory",
        "reserved_devices: 0",
        "reserved: 0",
        "reserved: 0",
        "inventory.h100.reserved: unknown field; did you mean 'reserved_devices'?",
    ),
    fault(
        "field-in-model",
        "precisions: [bf16]",
        "precision: [bf16]",
        "precision: [bf16]",
        "models.chat.precision: unknown field; did you mean 'precisions'?",
    ),
    fault(
        "field-at-top",
        "confidence: 0.5",
        "confidense: 0.5",
        "confidense",
        "confidense: unknown field; did you mean 'confidence'?",
    ),
    fault(
        "field-without-likeness",
        "search: {}",
        "search: {dp: 2}",
        "dp: 2",
        f"search.dp: unknown field; known: {SEARCH_FIELDS}",
    ),
    fault(
        "slo-in-words",
        "{ttft: 1 s, tpot: 40 ms}",
        "none",
        "slo: none",
        "workloads.chat.slo: must be a mapping of fields (got 'none')",
    ),
    # Quantities.
    fault(
        "bare-length",
        "32768 token",
        "32768",
        "max_model_len: 32768",
        "models.chat.max_model_len: needs a unit: write it like '32768 token' (got the bare number 32768)",
    ),
    fault(
        "bare-rate",
        "requests: max ",
        "requests: 12 ",
        "requests: 12 ",
        "workloads.chat.requests: needs a unit: write it like '12 /s' (got the bare number 12); or " + LOAD_FORMS,
    ),
    fault(
        "bare-time-limit",
        "time_limit: 60 s",
        "time_limit: 60",
        "time_limit: 60",
        "solver.time_limit: needs a unit: write it like '60 s' or '60 ms' (got the bare number 60)",
    ),
    fault(
        "size-for-time",
        "tpot: 40 ms",
        "tpot: 40 GB",
        "tpot: 40 GB",
        "workloads.chat.slo.tpot: '40 GB' is not a time in s; write it like '40 ms'",
    ),
    fault(
        "other-currency",
        "2.50 USD/h",
        "2.50 EUR/h",
        "price: 2.50 EUR/h",
        "inventory.h100.price: '2.50 EUR/h' is not a price in USD/h; write it like '2.50 USD/h'",
    ),
    fault(
        "negative-price",
        "2.50 USD/h",
        "-2.50 USD/h",
        "price: -2.50",
        "inventory.h100.price: must not be negative; write it like '2.50 USD/h'",
    ),
    fault(
        "negative-tokens",
        "3000 token",
        "-3000 token",
        "input_tokens: -3000",
        "workloads.chat.input_tokens: must be more than zero; write it like '3000 token'",
    ),
    fault(
        "zero-latency",
        "tpot: 40 ms",
        "tpot: 0 ms",
        "tpot: 0 ms",
        "workloads.chat.slo.tpot: must be more than zero; write it like '40 ms'",
    ),
    fault(
        "part-of-a-token",
        "3000 token",
        "3000.5 token",
        "input_tokens: 3000.5",
        "workloads.chat.input_tokens: must be a whole number of tokens; write it like '3000 token'",
    ),
    fault(
        "beyond-floating-point",
        "3000 token",
        "1e400 token",
        "input_tokens: 1e400",
        "workloads.chat.input_tokens: '1e400 token' is too large",
    ),
    # Names.
    fault(
        "hardware-unknown",
        "hardware: h100-sxm",
        "hardware: h10-sxm",
        "hardware: h10-sxm",
        "inventory.h100.hardware: unknown hardware 'h10-sxm'; did you mean 'h100-sxm'?",
    ),
    fault(
        "architecture-unknown",
        "Qwen/Qwen3-32B",
        "Qwen/Qwen3-33B",
        "architecture: Qwen/Qwen3-33B",
        "models.chat.architecture: unknown architecture 'Qwen/Qwen3-33B'; did you mean 'Qwen3-32B'? "
        "(or give the path of a config.json)",
    ),
    fault(
        "engine-unknown",
        "name: vllm,",
        "name: vlm,",
        "name: vlm,",
        "engine.name: unknown engine 'vlm'; did you mean 'vllm'?",
    ),
    fault(
        "engine-version-unknown",
        '"0.24"',
        '"0.25"',
        'version: "0.25"',
        "engine.version: no rules for vllm 0.25; did you mean '0.24'?",
    ),
    fault(
        "engine-version-number", '"0.24"', "0.24", "version: 0.24", "engine.version: must be text in quotes (got 0.24)"
    ),
    fault(
        "calibration-unknown",
        "confidence: 0.5",
        "calibration: texbook\nconfidence: 0.5",
        "calibration: texbook",
        "calibration: unknown calibration 'texbook'; did you mean 'textbook'?",
    ),
    fault(
        "workload-of-no-model",
        "model: chat\n",
        "model: chatt\n",
        "model: chatt",
        "workloads.chat.model: no model 'chatt' in this scenario; did you mean 'chat'?",
    ),
    fault(
        "hardware-file-missing",
        "hardware: h100-sxm",
        "hardware: gone.yaml",
        "hardware: gone.yaml",
        "inventory.h100.hardware: {folder}/gone.yaml: no such file",
    ),
    # Devices.
    fault(
        "nodes-and-devices",
        "nodes: 1 ",
        "nodes: 1\n    devices: 8 ",
        "h100:  ",
        "inventory.h100: give one of 'nodes', 'domains' and 'devices'",
    ),
    fault(
        "neither-nodes-nor-devices",
        "    nodes: 1 ",
        "    # ",
        "h100:  ",
        "inventory.h100: give one of 'nodes', 'domains' and 'devices'",
    ),
    fault("no-nodes", "nodes: 1 ", "nodes: 0 ", "nodes: 0", "inventory.h100.nodes: must be at least 1 (got 0)"),
    fault(
        "part-of-a-node",
        "nodes: 1 ",
        "nodes: 1.5 ",
        "nodes: 1.5",
        "inventory.h100.nodes: must be a whole number (got 1.5)",
    ),
    fault(
        "nodes-in-words",
        "nodes: 1 ",
        "nodes: one ",
        "nodes: one",
        "inventory.h100.nodes: must be a whole number (got 'one')",
    ),
    fault(
        "all-reserved",
        "reserved_devices: 0",
        "reserved_devices: 8",
        "reserved_devices: 8",
        "inventory.h100.reserved_devices: leaves no device to plan with",
    ),
    fault(
        "negative-reserve",
        "reserved_devices: 0",
        "reserved_devices: -1",
        "reserved_devices: -1",
        "inventory.h100.reserved_devices: must be at least 0 (got -1)",
    ),
    fault(
        "engine-on-another-vendor",
        "name: vllm,",
        "name: vllm-ascend,",
        "hardware: h100-sxm",
        "inventory.h100.hardware: no engine here runs on devices of NVIDIA: vllm-ascend runs on devices of Huawei",
    ),
    # Precisions.
    fault(
        "no-precision",
        "precisions: [bf16]",
        "precisions: []",
        "precisions: []",
        "models.chat.precisions: must not be empty (got [])",
    ),
    fault(
        "kv-precision-unknown",
        "search: {}",
        "search: {kv_precisions: [bf16, fp4]}",
        "fp4]",
        "search.kv_precisions.1: must be one of 'bf16', 'fp8' (got 'fp4')",
    ),
    Fault(
        "precision-not-served",
        [*ATLAS, ("[bf16]", "[fp8]")],
        "precisions: [fp8]",
        "models.chat.precisions: no engine here serves weights in fp8: vllm-ascend serves bf16, int8, int4",
    ),
    Fault(
        "kv-precision-not-served",
        [*ATLAS, ("search: {}", "search: {kv_precisions: fp8}")],
        "kv_precisions: fp8",
        "search.kv_precisions: vllm-ascend has no KV cache in fp8",
    ),
    # Loads and limits.
    *(
        fault(
            f"load-{id}",
            "requests: max ",
            f"requests: {written} ",
            f"requests: {written} ",
            f"workloads.chat.requests: {said}{LOAD_FORMS}",
        )
        for id, written, said in (
            ("in-words", "most", "'most' is not a request rate in request/s; write it like '12 /s'; or "),
            ("of-tokens", "12 token/s", "'12 token/s' is not a request rate in request/s; write it like '12 /s'; or "),
            ("zero", "0 /s", "must be more than zero; "),
            ("negative", "-3 /s", "must be more than zero; "),
            ("no-concurrency", "{concurrency: 0}", "is not a load; "),
            ("part-of-concurrency", "{concurrency: 2.5}", "is not a load; "),
            ("concurrency-true", "{concurrency: true}", "is not a load; "),
            ("two-forms", "{concurrency: 8, rate: 3}", "is not a load; "),
            ("misspelt", "{concurrent: 8}", "is not a load; "),
        )
    ),
    fault(
        "percentile",
        "ttft: 1 s",
        "ttft: {p99: 2 s}",
        "ttft: {p99",
        "workloads.chat.slo.ttft: percentile limits are not in this version, which predicts means; "
        "write a mean like '1 s'",
    ),
    fault(
        "longer-than-the-model",
        "3000 token",
        "32600 token",
        "input_tokens: 32600",
        "workloads.chat.input_tokens: with the output, requests of 32900 token exceed the model's limit of 32768 token",
    ),
    fault(
        "model-len-beyond-architecture",
        "32768 token",
        "40961 token",
        "max_model_len: 40961",
        "models.chat.max_model_len: at most 40960 token: the architecture's own limit",
    ),
    fault(
        "no-draft-module",
        "max_model_len: 32768 token",
        "max_model_len: 32768 token\n    speculative: {acceptance: [0.7]}",
        "speculative:",
        "models.chat.speculative: Qwen3-32B has no draft module of its own; give the draft_time of another model",
    ),
    fault(
        "acceptance-above-one",
        "max_model_len: 32768 token",
        "max_model_len: 32768 token\n    speculative: {acceptance: [1.5], draft_time: 1 ms}",
        "1.5",
        "models.chat.speculative.acceptance.0: must be at most 1 (got 1.5)",
    ),
    fault(
        "hot-load-of-more-than-all",
        "output_tokens: 300 token",
        "output_tokens: 300 token\n    expert_load: {hot_share: 0.5, hot_load: 3.0}",
        "expert_load:",
        "workloads.chat.expert_load: hot_share × hot_load must be at most 1, all of the load (got 1.5)",
    ),
    fault(
        "cold-experts-called-hot",
        "output_tokens: 300 token",
        "output_tokens: 300 token\n    expert_load: {hot_share: 0.5, hot_load: 0.1}",
        "hot_load: 0.1",
        "workloads.chat.expert_load.hot_load: must be at least 1 (got 0.1)",
    ),
    fault(
        "load-of-no-experts",
        "output_tokens: 300 token",
        "output_tokens: 300 token\n    expert_load: {hot_share: 0.1, hot_load: 3.0}",
        "expert_load:",
        "workloads.chat.expert_load: Qwen3-32B has no experts",
    ),
    fault(
        "one-output-token",
        "output_tokens: 300 token",
        "output_tokens: 1 token",
        "output_tokens: 1 token",
        "workloads.chat.output_tokens: must be at least 2 token: with one there is no decode to plan",
    ),
    fault(
        "confidence-of-textbook",
        "confidence: 0.5",
        "calibration: textbook\nconfidence: 0.9",
        "confidence: 0.9",
        "confidence: 'textbook' efficiencies carry no error intervals, so only 0.5 can be planned for; "
        "a fitted calibration has them",
    ),
    fault(
        "confidence-above-one",
        "confidence: 0.5",
        "confidence: 1.5",
        "confidence: 1.5",
        "confidence: must be less than 1 (got 1.5)",
    ),
    fault(
        "confidence-zero",
        "confidence: 0.5",
        "confidence: 0",
        "confidence: 0",
        "confidence: must be more than 0 (got 0)",
    ),
    fault(
        "engine-list",
        'engine: {name: vllm, version: "0.24"}',
        'engine: [{name: vllm, version: "0.24"}, {name: vllm, version: "0.24"}]',
        'name: vllm, version: "0.24"}]',
        "engine.1.name: vllm is listed twice; keep one, or name two versions",
    ),
    fault(
        "engine-in-a-list-version-number",
        'engine: {name: vllm, version: "0.24"}',
        "engine: [{name: sglang}, {name: vllm, version: 0.24}]",
        "version: 0.24",
        "engine.1.version: must be text in quotes (got 0.24)",
    ),
    fault(
        "engine-name-alone",
        'engine: {name: vllm, version: "0.24"}',
        "engine: vllm",
        "engine:",
        "engine: write it like '{name: vllm}'",
    ),
    # Goals.
    fault(
        "weighted",
        "objective: {maximize: requests}",
        "objective:\n  - {weighted: {cost: 0.7, ttft: 0}}",
        "ttft: 0}",
        "objective.0.weighted.ttft: must be more than 0 (got 0)",
    ),
    fault(
        "goal-twice",
        "objective: {maximize: requests}",
        "objective:\n  - {maximize: requests}\n  - {maximize: requests}",
        "{maximize: requests}  ",
        "objective.1: 'requests' is listed twice; keep the first",
    ),
    fault(
        "no-goal",
        "objective: {maximize: requests}",
        "objective: []",
        "objective: []",
        "objective: must not be empty (got [])",
    ),
    fault(
        "two-senses",
        "objective: {maximize: requests}",
        "objective:\n  - {maximize: requests, minimize: cost}",
        "{maximize: requests, minimize: cost}",
        "objective.0: give one of 'maximize', 'minimize' and 'weighted', like '{maximize: requests}'",
    ),
    fault(
        "goal-unknown",
        "objective: {maximize: requests}",
        "objective:\n  - {maximize: profit}",
        "maximize: profit",
        "objective.0.maximize: must be one of 'requests', 'tokens' (got 'profit')",
    ),
    fault(
        "least-devices-for-all-requests",
        "objective: {maximize: requests}",
        "objective: {minimize: devices}",
        "requests: max  ",
        "workloads.chat.requests: 'max' has no least devices; write a rate like '12 /s', or maximize requests first",
    ),
    fault(
        "most-requests-of-fixed-concurrency",
        "requests: max ",
        "requests: {concurrency: 256} ",
        "objective: {maximize: requests}",
        "objective: a number of requests in flight fixes the load; minimize devices, cost or power",
    ),
    Fault(
        "cost-without-price",
        [
            ("    price: 2.50 USD/h", "    # "),
            ("objective: {maximize: requests}", "objective: {minimize: cost}"),
            ("requests: max ", "requests: 5 /s "),
        ],
        "h100:  ",
        "inventory.h100.price: is required to minimise cost; write it like '2.50 USD/h'",
    ),
    # Search and solver.
    fault("search-zero", "search: {}", "search: {tp: [0]}", "0]}", "search.tp.0: must be at least 1 (got 0)"),
    fault(
        "search-in-words",
        "search: {}",
        "search: {tp: [two]}",
        "two]",
        "search.tp.0: must be a whole number (got 'two')",
    ),
    fault("search-nothing", "search: {}", "search: {tp: []}", "tp: []", "search.tp: must not be empty (got [])"),
    fault(
        "gap-of-one",
        "relative_gap: 0",
        "relative_gap: 1",
        "relative_gap: 1",
        "solver.relative_gap: must be less than 1 (got 1)",
    ),
    fault(
        "gap-negative",
        "relative_gap: 0",
        "relative_gap: -0.1",
        "relative_gap: -0.1",
        "solver.relative_gap: must be at least 0 (got -0.1)",
    ),
    fault(
        "solver-unknown",
        "solver: {name: highs,",
        "solver: {name: cplex,",
        "name: cplex",
        "solver.name: must be highs, cbc, cp-sat, or pulp:NAME, a solver that PuLP finds (got 'cplex')",
    ),
    fault(
        "later-version", "schema_version: 1", "schema_version: 2", "schema_version", "schema_version: must be 1 (got 2)"
    ),
    # Sizes beyond reason, and numbers that are none.
    fault(
        "nodes-beyond-reason",
        "nodes: 1 ",
        "nodes: 1000000 ",
        "nodes: 1000000",
        "inventory.h100.nodes: must be at most 100000 (got 1000000)",
    ),
    fault(
        "tokens-beyond-reason",
        "3000 token",
        "3e12 token",
        "input_tokens: 3e12",
        "workloads.chat.input_tokens: must be at most 1000000000 token (got '3e12 token')",
    ),
    fault(
        "price-beyond-reason",
        "2.50 USD/h",
        "1e300 USD/h",
        "price: 1e300",
        "inventory.h100.price: '1e300 USD/h' is too large; write it like '2.50 USD/h'",
    ),
    fault(
        "time-below-reason",
        "tpot: 40 ms",
        "tpot: 1e-300 ms",
        "tpot: 1e-300 ms",
        "workloads.chat.slo.tpot: '1e-300 ms' is too small; write it like '40 ms'",
    ),
    fault(
        "concurrency-beyond-reason",
        "requests: max ",
        "requests: {concurrency: 1000000000000} ",
        "requests: {concurrency",
        f"workloads.chat.requests: is not a load; {LOAD_FORMS}",
    ),
    fault(
        "whole-number-without-end",
        "nodes: 1 ",
        "nodes: " + "7" * 5000,
        "7" * 5000,
        "inventory.h100.nodes: 77777777777777777777... is too large: whole numbers end at 9007199254740992",
    ),
    fault(
        "confidence-not-a-number",
        "confidence: 0.5",
        "confidence: .nan",
        "confidence: .nan",
        "confidence: must be a finite number (got .nan)",
    ),
    fault(
        "gap-infinite",
        "relative_gap: 0",
        "relative_gap: .inf",
        "relative_gap: .inf",
        "solver.relative_gap: must be a finite number (got .inf)",
    ),
    fault(
        "time-infinite",
        "tpot: 40 ms",
        "tpot: .inf",
        "tpot: .inf",
        "workloads.chat.slo.tpot: needs a unit: write it like '40 ms' (got the bare number .inf)",
    ),
    # Values are quoted as YAML has them.
    fault(
        "null",
        "nodes: 1 ",
        "nodes: [null] ",
        "nodes: [null]",
        "inventory.h100.nodes: must be a whole number (got [null])",
    ),
    fault("true", "name: quickstart", "name: true", "name: true", "name: must be text in quotes (got true)"),
    fault(
        "no-quantity",
        "3000 token",
        "null",
        "input_tokens: null",
        "workloads.chat.input_tokens: null is not a token count in token; write it like '3000 token'",
    ),
    fault(
        "precision-unknown",
        "precisions: [bf16]",
        "precisions: [bf17]",
        "bf17]",
        "models.chat.precisions.0: must be one of 'bf16', 'fp8', 'int8', 'int4', 'fp4' (got 'bf17')",
    ),
    fault(
        "tag-that-does-not-fit",
        "name: quickstart",
        "name: !!bool quick",
        "!!bool quick",
        "name: cannot be read as bool",
    ),
    # Paths.
    fault(
        "path-without-suffix",
        "hardware: h100-sxm",
        "hardware: ./mine",
        "hardware: ./mine",
        "inventory.h100.hardware: './mine' is no shipped name, and a path must end in .yaml or .yml or .json",
    ),
    fault(
        "path-of-a-model-without-suffix",
        "Qwen/Qwen3-32B",
        "./mine",
        "architecture: ./mine",
        "models.chat.architecture: './mine' is no shipped name, and a path must end in .json "
        "(or give the path of a config.json)",
    ),
    fault(
        "no-such-home",
        "hardware: h100-sxm",
        "hardware: ~no-such-user/mine.yaml",
        "hardware: ~no",
        "inventory.h100.hardware: ~no-such-user/mine.yaml: there is no such home folder; write the path out",
    ),
    fault(
        "nul-in-a-path",
        "hardware: h100-sxm",
        'hardware: "mi\\0ne.yaml"',
        'hardware: "mi',
        "inventory.h100.hardware: {folder}/mi\0ne.yaml: cannot be read: embedded null byte",
    ),
    # More than this version plans.
    fault(
        "two-models",
        "models:\n",
        "models:\n  second: {architecture: Qwen3-33B}\n",
        "architecture: Qwen3-33B",
        "models.second.architecture: unknown architecture 'Qwen3-33B'; did you mean 'Qwen3-32B'? "
        "(or give the path of a config.json)",
    ),
    fault(
        "weighted-and-as-much-as-fits",
        "objective: {maximize: requests}",
        "objective: {weighted: {cost: 0.7, ttft: 0.3}}",
        "requests: max ",
        "workloads.chat.requests: 'max' has no least weighted; write a rate like '12 /s', or maximize requests first",
    ),
    # YAML itself.
    fault(
        "key-twice",
        "confidence: 0.5",
        "name: again\nconfidence: 0.5",
        "name: again",
        f"name: is written twice (first in line {NAME_LINE}); keep one",
    ),
    fault(
        "impossible-date",
        "name: quickstart",
        "name: 2020-13-41",
        "2020-13-41",
        "name: cannot be read: month must be in 1..12",
    ),
    fault("list-for-a-key", "confidence: 0.5", "? [a, b]\n: c\nconfidence: 0.5", "[a, b]", "a key must be plain text"),
]


@pytest.mark.parametrize("case", SCENARIO_FAULTS, ids=lambda case: case.id)
def test_scenario_fault_is_named_at_its_place(case, tmp_path):
    text = changed(QUICKSTART, *case.changes)
    said = refused(tmp_path, text)
    message = case.message.replace("{folder}", str(tmp_path))
    assert said.lines == [f"error: {tmp_path / 'scenario.yaml'}:{place(text, case.at)}: {message}"]


def test_misspelt_required_field_is_missing_and_unknown(tmp_path):
    text = changed(QUICKSTART, ("objective: {", "objectiv: {"))
    path = tmp_path / "scenario.yaml"
    assert refused(tmp_path, text).lines == [
        f"error: {path}:1:1: objective: is required",
        f"error: {path}:{place(text, 'objectiv: {')}: objectiv: unknown field; did you mean 'objective'?",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("", "1:1: is empty; it needs the fields of a scenario", id="empty"),
        pytest.param("# later\n", "1:1: is empty; it needs the fields of a scenario", id="only-a-comment"),
        pytest.param("- a\n- b\n", "1:1: must be a mapping of fields; it needs the fields of a scenario", id="list"),
        pytest.param("later\n", "1:1: must be a mapping of fields; it needs the fields of a scenario", id="text"),
        pytest.param("name: caf\u00e9\n".encode("latin-1"), " not a UTF-8 text file", id="latin-1"),
        pytest.param(None, " no such file", id="missing"),
        pytest.param("a: &a [*a]\n", "1:4: a.0: aliases repeat without end; write the content out", id="endless-alias"),
    ],
)
def test_file_without_a_scenario(content, message, tmp_path):
    assert refused(tmp_path, content).lines == [f"error: {tmp_path / 'scenario.yaml'}:{message}"]


@pytest.mark.parametrize("field", ["schema_version", "name", "models", "inventory", "engine", "workloads", "objective"])
def test_a_missing_top_level_field_is_named_alone(field, tmp_path):
    data = yaml.safe_load(QUICKSTART)
    del data[field]
    said = refused(tmp_path, yaml.safe_dump(data, sort_keys=False))
    assert said.lines == [f"error: {tmp_path / 'scenario.yaml'}:1:1: {field}: is required"]


@pytest.mark.parametrize("content", ["", "# later\n"])
def test_setting_on_an_empty_file_leaves_the_other_fields_missing(content, tmp_path):
    said = refused(tmp_path, content, arguments=["--set", "name=mine"])
    fields = ["engine", "inventory", "models", "objective", "schema_version", "workloads"]
    assert said.lines == [f"error: {tmp_path / 'scenario.yaml'}:1:1: {field}: is required" for field in fields]


@pytest.mark.parametrize("content", ["- a\n", "later\n"])
def test_setting_on_a_file_that_is_no_mapping(content, tmp_path):
    said = refused(tmp_path, content, arguments=["--set", "name=mine"])
    assert said.lines == ["error: --set name=mine: the file is not a mapping, so nothing can be set in it"]


def test_a_file_too_long_to_be_a_scenario(tmp_path):
    said = refused(tmp_path, "# " + "x" * 5_000_000)
    assert said.lines == [
        f"error: {tmp_path / 'scenario.yaml'}: longer than 5000000 characters: no file of this kind is"
    ]


def test_a_name_too_long_for_a_file():
    result = CliRunner().invoke(app, ["solve", "x" * 300])
    assert (result.exit_code, "neither a file nor a shipped scenario" in result.stderr) == (EXIT_BAD_INPUT, True)


@pytest.mark.parametrize(
    ("specification", "text", "called"),
    [
        ("hardware: h100-sxm", "hardware: mine.yaml", "a hardware specification"),
        ("confidence: 0.5", "calibration: mine.yaml", "a calibration"),
        ("Qwen/Qwen3-32B", "mine.json", "a config.json"),
    ],
)
@pytest.mark.parametrize(("content", "what"), [("[]", "must be a mapping of fields"), ("null", "is empty")])
def test_a_specification_without_fields_is_called_by_its_name(specification, text, called, content, what, tmp_path):
    name = text.split()[-1]
    said = refused(tmp_path, changed(QUICKSTART, (specification, text)), {name: content})
    assert said.lines == [f"error: {tmp_path / name}:1:1: {what}; it needs the fields of {called}"]


def test_folder_given_as_scenario(tmp_path):
    (tmp_path / "scenario.yaml").mkdir()
    assert refused(tmp_path, None).lines == [f"error: {tmp_path / 'scenario.yaml'}: cannot be read: Is a directory"]


def test_alias_bomb_is_stopped(tmp_path):
    names = "abcdefghij"
    lines = [f"{names[0]}: &{names[0]} [x, x, x, x, x, x, x, x, x, x]"]
    for inner, outer in itertools.pairwise(names):
        lines.append(f"{outer}: &{outer} [{', '.join([f'*{inner}'] * 10)}]")
    said = refused(tmp_path, "\n".join(lines))
    assert len(said.lines) == 1
    assert said.lines[0].startswith(f"error: {tmp_path / 'scenario.yaml'}:")
    assert said.lines[0].endswith("aliases repeat without end; write the content out")


# What follows "not valid YAML" is the library's, and differs between its C and Python readers.
@pytest.mark.parametrize(
    ("old", "new", "at"),
    [
        pytest.param("  chat:       ", "\tchat:       ", "\tchat", id="tab"),
        pytest.param("precisions: [bf16]", "precisions: ]", "]  ", id="stray-bracket"),
        pytest.param("name: quickstart", "name: quick: start", ": start", id="colon-in-text"),
        pytest.param("name: quickstart", "name: *start", "*start", id="alias-of-nothing"),
        pytest.param("name: quickstart", "name: @start", "@start", id="reserved-character"),
    ],
)
def test_broken_yaml_is_placed(old, new, at, tmp_path):
    text = changed(QUICKSTART, (old, new))
    (line,) = refused(tmp_path, text).lines
    assert line.startswith(f"error: {tmp_path / 'scenario.yaml'}:{place(text, at)}: not valid YAML: ")


HARDWARE_FAULTS = [
    fault(
        "field",
        "devices_per_node: {",
        "devices_per_nodes: {",
        "devices_per_nodes",
        "devices_per_nodes: unknown field; did you mean 'devices_per_node'?",
    ),
    fault(
        "capacity",
        "value: 80 GiB",
        "value: 80",
        "value: 80",
        "memory.capacity.value: needs a unit: write it like '80 GiB' (got the bare number 80)",
    ),
    fault(
        "no-bandwidth",
        "value: 3.35 TB/s",
        "value: 0 TB/s",
        "value: 0 TB/s",
        "memory.bandwidth.value: must be more than zero; write it like '3.35 TB/s'",
    ),
    fault(
        "bytes-for-flop",
        "value: 989.4 TFLOP/s",
        "value: 989.4 TB/s",
        "value: 989.4 TB/s",
        "peak_flops.bf16.value: '989.4 TB/s' is not a compute rate in flop/s; write it like '989.4 TFLOP/s'",
    ),
    fault(
        "source-not-listed",
        "value: 80 GiB, source: [aiconfigurator]",
        "value: 80 GiB, source: [hearsay]",
        "source: [hearsay]",
        "memory.capacity.source: names a source that 'sources' does not list; "
        "known: aiconfigurator, hopper-notes, hopper-table, mlperf-5.1, nvidia-h100",
    ),
    fault(
        "source-missing",
        "value: 80 GiB, source: [aiconfigurator]",
        "value: 80 GiB",
        "capacity: {",
        "memory.capacity.source: is required",
    ),
    fault(
        "no-source",
        "value: 80 GiB, source: [aiconfigurator]",
        "value: 80 GiB, source: []",
        "source: []",
        "memory.capacity.source: must not be empty (got [])",
    ),
    fault(
        "precision",
        "  fp8: {",
        "  fp9: {",
        "fp9: {",
        "peak_flops.fp9: must be one of 'bf16', 'fp8', 'int8', 'int4', 'fp4' (got 'fp9')",
    ),
    fault(
        "topology",
        "topology: switch",
        "topology: ring",
        "topology: ring",
        "scale_up.0.topology: must be one of 'switch', 'full-mesh' (got 'ring')",
    ),
]


@pytest.mark.parametrize("case", HARDWARE_FAULTS, ids=lambda case: case.id)
def test_fault_in_the_users_hardware_is_placed_there(case, tmp_path):
    text = changed(HARDWARE, *case.changes)
    scenario = changed(QUICKSTART, ("hardware: h100-sxm", "hardware: mine.yaml"))
    said = refused(tmp_path, scenario, {"mine.yaml": text})
    expected = f"error: {tmp_path / 'mine.yaml'}:{place(text, case.at)}: {case.message}"
    missing = [f"error: {tmp_path / 'mine.yaml'}:1:1: devices_per_node: is required"] * (case.id == "field")
    assert said.lines == [*missing, expected]


def test_fault_in_the_users_calibration_is_placed_there(tmp_path):
    text = changed(
        CALIBRATION,
        ("gemm_bf16: {value: 0.60", "gemm_bf16: {value: 1.60"),
        ("2.0, source: [queueing]", "2.0, source: [fish]"),
    )
    scenario = changed(QUICKSTART, ("confidence: 0.5", "calibration: mine.yaml"))
    said = refused(tmp_path, scenario, {"mine.yaml": text})
    at = place(text, "value: 1.60")
    assert said.lines == [f"error: {tmp_path / 'mine.yaml'}:{at}: compute.gemm_bf16.value: must be at most 1 (got 1.6)"]


CONFIG_FAULTS = [
    fault("key-missing", '  "hidden_size": 5120,\n', "", "", "hidden_size: is required"),
    fault("key-of-this-type-missing", '  "head_dim": 128,\n', "", "", "head_dim: is required"),
    fault(
        "key-unknown",
        '"head_dim": 128',
        '"head_dim": 128,\n  "moe_layers": 3',
        '"moe_layers"',
        "moe_layers: this key is not understood; its cost would be missed",
    ),
    fault(
        "type-unknown",
        '"qwen3"',
        '"qwen4"',
        '"model_type"',
        "model_type: this model type is not understood; did you mean 'qwen3'?",
    ),
    fault("type-missing", '  "model_type": "qwen3",\n', "", "", "model_type: is required"),
    fault(
        "text-for-a-count",
        '"hidden_size": 5120',
        '"hidden_size": "5120"',
        '"hidden_size"',
        "hidden_size: must be a whole number (got '5120')",
    ),
    fault(
        "no-layers",
        '"num_hidden_layers": 64',
        '"num_hidden_layers": 0',
        '"num_hidden_layers"',
        "num_hidden_layers: must be at least 1 (got 0)",
    ),
    fault(
        "sliding-window",
        '"use_sliding_window": false',
        '"use_sliding_window": true',
        '"use_sliding_window"',
        "use_sliding_window: only false is modelled (got true)",
    ),
    fault("other-activation", '"silu"', '"gelu"', '"hidden_act"', 'hidden_act: only "silu" is modelled (got "gelu")'),
    fault(
        "single-precision",
        '"bfloat16"',
        '"float32"',
        '"torch_dtype"',
        "torch_dtype: must be one of bfloat16, float16 (got 'float32')",
    ),
    fault(
        "heads-not-shared-out",
        '"num_key_value_heads": 8',
        '"num_key_value_heads": 7',
        '"num_key_value_heads"',
        "num_key_value_heads: must divide num_attention_heads, 64 (got 7)",
    ),
    fault(
        "size-beyond-reason",
        '"hidden_size": 5120',
        '"hidden_size": 5120000000000',
        '"hidden_size"',
        "hidden_size: must be at most 1000000000 (got 5120000000000)",
    ),
    fault(
        "json-key-twice",
        '"head_dim": 128',
        '"head_dim": 128,\n  "head_dim": 64',
        '"head_dim": 64',
        "head_dim: is written twice (first in line {line}); keep one",
    ),
    fault(
        "bad-json",
        '"head_dim": 128,\n  "',
        '"head_dim": 128\n  "',
        '"hidden_act"',
        "not valid JSON: Expecting ',' delimiter",
    ),
]


@pytest.mark.parametrize("case", CONFIG_FAULTS, ids=lambda case: case.id)
def test_fault_in_the_users_config_is_placed_there(case, tmp_path):
    text = changed(CONFIG, *case.changes)
    scenario = changed(QUICKSTART, ("Qwen/Qwen3-32B", "config.json"))
    said = refused(tmp_path, scenario, {"config.json": text})
    message = case.message.replace("{line}", place(CONFIG, '"head_dim"').split(":")[0])
    assert said.lines == [f"error: {tmp_path / 'config.json'}:{place(text, case.at)}: {message}"]


class ShippedFault(NamedTuple):
    """A change of a shipped architecture's config.json, the place reported, and the message."""

    id: str
    name: str
    old: str
    new: str
    at: str
    message: str


SHIPPED_FAULTS = [
    ShippedFault(
        "nested-key-unknown",
        "Kimi-K2.5",
        '"kv_lora_rank": 512',
        '"kv_lora_rank": 512, "rank": 3',
        '"rank"',
        "text_config.rank: this key is not understood; its cost would be missed",
    ),
    ShippedFault(
        "key-beside-the-text-unknown",
        "Kimi-K2.5",
        '"ignore_index"',
        '"audio_config"',
        '"audio_config"',
        "audio_config: this key is not understood; its cost would be missed",
    ),
    ShippedFault(
        "nested-key-missing",
        "Kimi-K2.5",
        '"kv_lora_rank": 512,',
        "",
        '"text_config"',
        "text_config.kv_lora_rank: is required",
    ),
    ShippedFault(
        "nested-type",
        "Gemma-3-27B",
        '"gemma3_text"',
        '"llama"',
        '"model_type": "llama"',
        "text_config.model_type: only gemma3_text is modelled here (got 'llama')",
    ),
    ShippedFault(
        "text-missing",
        "Gemma-3-27B",
        '"text_config"',
        '"vision"',
        "",
        "text_config: is required",
    ),
    ShippedFault(
        "renamed-key",
        "DeepSeek-V3",
        '"n_routed_experts": 256',
        '"n_routed_experts": 0',
        '"n_routed_experts"',
        "n_routed_experts: must be at least 1 (got 0)",
    ),
    ShippedFault(
        "leading-layers",
        "DeepSeek-V3",
        '"first_k_dense_replace": 3',
        '"first_k_dense_replace": -3',
        '"first_k_dense_replace"',
        "first_k_dense_replace: must be at least 0 (got -3)",
    ),
    ShippedFault(
        "experts-every-other-layer",
        "DeepSeek-V3",
        '"moe_layer_freq": 1',
        '"moe_layer_freq": 2',
        '"moe_layer_freq"',
        "moe_layer_freq: only 1 is modelled (got 2)",
    ),
    ShippedFault(
        "projected-vocabulary",
        "OPT-13B",
        '"word_embed_proj_dim": 5120',
        '"word_embed_proj_dim": 512',
        '"word_embed_proj_dim"',
        "word_embed_proj_dim: only 5120, hidden_size, is modelled (got 512)",
    ),
    ShippedFault(
        "quantisation-unknown",
        "MiniMax-M2.5",
        '"quant_method": "fp8"',
        '"quant_method": "bitsandbytes"',
        '"quantization_config"',
        "quantization_config: this quantisation is not understood; known: fp8, mxfp4, compressed-tensors, "
        'modelopt (FP8 or NVFP4), awq and gptq of 4 or 8 bits (got {"quant_method": "bitsandbytes"})',
    ),
    ShippedFault(
        "layers-left-over",
        "gpt-oss-20b",
        '"num_hidden_layers": 24',
        '"num_hidden_layers": 25',
        '"layer_types"',
        "layer_types: must name 25 layers, as num_hidden_layers says (got 24)",
    ),
    ShippedFault(
        "layer-type-unknown",
        "gpt-oss-20b",
        '"layer_types": [\n    "sliding_attention"',
        '"layer_types": [\n    "chunked_attention"',
        '"layer_types"',
        'layer_types: only "sliding_attention" or "full_attention" is modelled (got "chunked_attention")',
    ),
]


@pytest.mark.parametrize("case", SHIPPED_FAULTS, ids=lambda case: case.id)
def test_fault_in_a_shipped_kind_of_config_is_placed_there(case, tmp_path):
    shipped = (resources.shipped("architectures") / case.name / "config.json").read_text(encoding="utf-8")
    text = changed(shipped, (case.old, case.new))
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_architecture(str(path))
    assert str(caught.value) == f"{path}:{place(text, case.at)}: {case.message}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, ":1:1: nested too deeply"),
        ('{"a": NaN}', ":1:7: not valid JSON: NaN is not a finite number"),
        ('{"a": 1e999}', ":1:7: not valid JSON: 1e999 is not a finite number"),
        (f"[{'7' * 5000}]", ":1:2: 77777777777777777777... is too large: whole numbers end at 9007199254740992"),
    ],
    ids=["deep", "nan", "infinite", "endless"],
)
def test_json_that_no_config_holds(content, message, tmp_path):
    scenario = changed(QUICKSTART, ("Qwen/Qwen3-32B", "config.json"))
    said = refused(tmp_path, scenario, {"config.json": content})
    assert said.lines == [f"error: {tmp_path / 'config.json'}{message}"]


def test_a_fault_in_json_that_yaml_does_not_allow_is_still_named(tmp_path):
    scenario = changed(QUICKSTART, ("Qwen/Qwen3-32B", "config.json"))
    text = changed(CONFIG, ('"silu"', '"si\\ud83d\\ude00lu"'))
    said = refused(tmp_path, scenario, {"config.json": text})
    assert [line.partition(": hidden_act: ")[0] for line in said.lines] == [f"error: {tmp_path / 'config.json'}:1:1"]


def test_every_key_missing_from_a_config_is_named(tmp_path):
    scenario = changed(QUICKSTART, ("Qwen/Qwen3-32B", "config.json"))
    said = refused(tmp_path, scenario, {"config.json": '{"model_type": "llama"}'})
    needed = [
        "hidden_size", "intermediate_size", "max_position_embeddings", "num_attention_heads", "num_hidden_layers",
        "num_key_value_heads", "vocab_size",
    ]  # fmt: skip
    assert said.lines == [f"error: {tmp_path / 'config.json'}:1:1: {key}: is required" for key in needed]
    assert set(needed) < set(json.loads(CONFIG))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("workloads.chat.slo.tpot", "write it like 'workloads.chat.slo.tpot=30 ms'"),
        ("=3", "write it like 'workloads.chat.slo.tpot=30 ms'"),
        ("workloads..slo=3", "write it like 'workloads.chat.slo.tpot=30 ms'"),
        (
            "workloads.chat.slo.tpot=30",
            "workloads.chat.slo.tpot: needs a unit: write it like '30 s' or '30 ms' (got the bare number 30)",
        ),
        ("inventory.h100.nodes=x", "inventory.h100.nodes: must be a whole number (got 'x')"),
        ("inventory.h100={hardware: h100, nodes: 0}", "inventory.h100.nodes: must be at least 1 (got 0)"),
        ("engine.version.major=1", "'engine.version' is not a mapping, so nothing can be set in it"),
        ("models.chat.precisions.0=fp8", "'models.chat.precisions' is not a mapping, so nothing can be set in it"),
        (
            "objective={minimize: devices}",
            None,  # the fault is where the load stands, in the file
        ),
        ("inventry.h100=3", "inventry: unknown field; did you mean 'inventory'?"),
        ("inventory.more.nodes=3", "inventory.more.hardware: is required"),
        ("calibration=texbook", "calibration: unknown calibration 'texbook'; did you mean 'textbook'?"),
        (
            "search.dp=2",
            f"search.dp: unknown field; known: {SEARCH_FIELDS}",
        ),
    ],
)
def test_faulty_setting_is_named_by_its_own_text(setting, message, tmp_path):
    said = refused(tmp_path, QUICKSTART, arguments=["--set", setting])
    if message is None:
        at = place(QUICKSTART, "requests: max ")
        assert len(said.lines) == 1
        assert said.lines[0].startswith(f"error: {tmp_path / 'scenario.yaml'}:{at}: workloads.chat.requests: 'max' ")
    else:
        assert said.lines == [f"error: --set {setting}: {message}"]


def test_two_faulty_settings_are_both_named(tmp_path):
    said = refused(tmp_path, QUICKSTART, arguments=["--set", "confidence=2", "--set", "name=3"])
    assert said.lines == [
        "error: --set confidence=2: confidence: must be less than 1 (got 2)",
        "error: --set name=3: name: must be text in quotes (got 3)",
    ]


def test_two_faults_have_their_own_lines(tmp_path):
    text = changed(QUICKSTART, ("32768 token", "32768"), ("ttft: 1 s", "ttft: 1 kg"))
    path = tmp_path / "scenario.yaml"
    assert refused(tmp_path, text).lines == [
        f"error: {path}:{place(text, 'max_model_len')}: models.chat.max_model_len: needs a unit: write it like "
        "'32768 token' (got the bare number 32768)",
        f"error: {path}:{place(text, 'ttft: 1 kg')}: workloads.chat.slo.ttft: '1 kg' is not a time in s; "
        "write it like '40 ms'",
    ]


def test_fault_of_a_field_does_not_hide_one_between_fields(tmp_path):
    text = changed(QUICKSTART, ('"0.24"', '"0.25"'), ("ttft: 1 s", "ttft: 1 kg"))
    said = refused(tmp_path, text)
    path, version = tmp_path / "scenario.yaml", place(text, 'version: "0.25"')
    assert [line.split(": ")[1:3] for line in said.lines] == [
        [f"{path}:{version}", "engine.version"],
        [f"{path}:{place(text, 'ttft: 1 kg')}", "workloads.chat.slo.ttft"],
    ]


def test_faults_of_scenario_hardware_and_config_come_together(tmp_path):
    text = changed(
        QUICKSTART,
        ("hardware: h100-sxm", "hardware: mine.yaml"),
        ("Qwen/Qwen3-32B", "config.json"),
        ("tpot: 40 ms", "tpot: 40"),
    )
    hardware = changed(HARDWARE, ("value: 700 W", "value: 700 J"))
    config = changed(CONFIG, ('"silu"', '"relu"'))
    said = refused(tmp_path, text, {"mine.yaml": hardware, "config.json": config})
    assert [line.split(": ")[1:3] for line in said.lines] == [
        [f"{tmp_path / 'config.json'}:{place(config, chr(34) + 'hidden_act')}", "hidden_act"],
        [f"{tmp_path / 'mine.yaml'}:{place(hardware, 'value: 700 J')}", "power.value"],
        [f"{tmp_path / 'scenario.yaml'}:{place(text, 'tpot: 40')}", "workloads.chat.slo.tpot"],
    ]


def test_the_unchanged_files_are_accepted(tmp_path):
    """Without this the cases above could be refused for a fault that all share."""
    text = changed(
        QUICKSTART,
        ("hardware: h100-sxm", "hardware: mine.yaml"),
        ("Qwen/Qwen3-32B", "config.json"),
        ("confidence: 0.5", "calibration: calibration.yaml"),
        ("search: {}", "search: {tp: 2, pp: 1, max_num_seqs: 32, max_num_batched_tokens: 512}"),
    )
    for name, content in (
        ("scenario.yaml", text), ("mine.yaml", HARDWARE), ("config.json", CONFIG), ("calibration.yaml", CALIBRATION)
    ):  # fmt: skip
        (tmp_path / name).write_text(content, encoding="utf-8")
    result = CliRunner().invoke(app, ["solve", str(tmp_path / "scenario.yaml"), "--out", str(tmp_path / "plan.json")])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))["deployments"]
