"""Reading what an engine accepts: forms and types of options, and TensorRT-LLM's references, from a small checkout."""

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from planner.launch.definition import from_flags

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def definitions():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
        return importlib.import_module("engine_definitions")


@pytest.fixture(scope="module")
def parsers(definitions):
    return sys.modules["engine_parsers"]


def optional(convert):
    return lambda text: None if text == "None" else convert(text)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"type": int, "default": 3}, {"form": "one", "type": "int", "default": 3}),
        ({"type": optional(float)}, {"form": "one", "type": "float", "default": None}),
        ({"type": optional(json.loads)}, {"form": "one", "type": "json", "default": None}),
        ({"choices": ["b", "a"]}, {"form": "one", "type": "str", "choices": ["a", "b"], "default": None}),
        ({"nargs": "+", "type": int}, {"form": "many", "type": "int", "default": None}),
        ({"action": "store_true"}, {"form": "switch", "default": False}),
        ({"action": argparse.BooleanOptionalAction}, {"form": "pair", "default": None}),
        ({"default": "bench-0123abcd-"}, {"form": "one", "type": "str"}),
    ],
)
def test_options_of_a_parser(parsers, arguments, expected):
    parser = argparse.ArgumentParser()
    parser.add_argument("--some-option", **arguments)
    assert parsers.options(parser) == {"some-option": expected}


def test_references_of_tensorrt_llm(definitions, tmp_path):
    manifest = {
        "TorchLlmArgs": [
            {"path": "max_batch_size", "annotation": "Optional[int]", "allowed_values": []},
            {"path": "enable_attention_dp", "annotation": "<class 'bool'>", "allowed_values": []},
            {"path": "kv_cache_config.dtype", "annotation": "<class 'str'>", "allowed_values": ["fp8", "auto"]},
            {"path": "cuda_graph_config.batch_sizes", "annotation": "Optional[List[int]]", "allowed_values": []},
        ]
    }
    usage = tmp_path / "tensorrt_llm" / "usage"
    references = tmp_path / "tests" / "unittest" / "api_stability" / "references"
    usage.mkdir(parents=True)
    references.mkdir(parents=True)
    (usage / "llm_args_golden_manifest.json").write_text(json.dumps(manifest))
    options = {"port": {"type": "int", "is_flag": False, "flags": ["--port"]}}
    commands = {"serve": {"options": options}, "disaggregated": {"options": options}}
    (references / "trtllm_serve_cli.yaml").write_text(json.dumps({"commands": commands}))
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a", "commit", "-qm", "a"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    read = definitions.trtllm(tmp_path)
    assert read["fields"] == {"kv_cache_config": ["dtype"], "cuda_graph_config": ["batch_sizes"]}
    assert read["options"]["start"] == {"port": {"form": "one", "type": "int"}}
    serve = read["options"]["serve"]
    assert serve["max_batch_size"] == {"form": "one", "type": "int"}
    assert serve["enable_attention_dp"] == {"form": "one", "type": "bool"}
    assert serve["kv_cache_config.dtype"]["choices"] == ["auto", "fp8"]
    assert serve["cuda_graph_config.batch_sizes"] == {"form": "many", "type": "int"}
    assert serve["kv_cache_config"] == {"form": "one", "type": "json"}
    assert json.loads(definitions.text(read)) == read


def test_the_shipped_part_of_tensorrt_llm_has_the_form_that_the_reader_writes(definitions):
    """It was written from what was read of two files, not by the reader: the same keys and kinds of values."""
    shipped = json.loads((definitions.FOLDER / "trtllm.json").read_text())
    assert set(shipped["options"]) == {"serve", "start", "route"}
    for found in shipped["options"].values():
        for option in found.values():
            assert option["form"] in ("one", "many", "switch")
            assert set(option) <= {"form", "type", "choices"}
    named = {f"{root}.{field}" for root, fields in shipped["fields"].items() for field in fields}
    assert named == {name for name in shipped["options"]["serve"] if "." in name}


def test_words_of_a_command_line_are_read_with_their_types():
    words = ["--port", "8000", "--headless", "--gpu-memory-utilization", "0.92", "--cudagraph-capture-sizes", "1", "2"]
    words += ["--kv-transfer-config", '{"kv_role": "kv_producer"}']
    assert from_flags("vllm", "serve", words) == {
        "port": 8000,
        "headless": True,
        "gpu-memory-utilization": 0.92,
        "cudagraph-capture-sizes": [1, 2],
        "kv-transfer-config": {"kv_role": "kv_producer"},
    }
