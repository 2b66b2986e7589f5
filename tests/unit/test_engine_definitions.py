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


MANIFEST = [
    {"path": "max_batch_size", "annotation": "Optional[int]", "allowed_values": []},
    {"path": "enable_attention_dp", "annotation": "<class 'bool'>", "allowed_values": []},
    {"path": "kv_cache_config.dtype", "annotation": "<class 'str'>", "allowed_values": ["fp8", "auto"]},
    {"path": "kv_cache_config.pool_ratio", "annotation": "Optional[List[float]]", "allowed_values": []},
    {"path": "kv_cache_config.events.publisher", "annotation": "Literal['zmq']", "allowed_values": ["zmq"]},
    {"path": "cuda_graph_config.sizes", "annotation": "Optional[List[Annotated[int, Gt(gt=0)]]]", "allowed_values": []},
    {"path": "topr", "annotation": "Union[int, float, NoneType]", "allowed_values": []},
    {"path": "second_manager", "annotation": "Union[bool, Literal['auto']]", "allowed_values": ["auto"]},
]
COMMAND = {
    "port": {"type": "int", "is_flag": False, "status": "beta", "flags": ["--port", "-p"]},
    "tensor_parallel_size": {
        "type": "int", "is_flag": False, "status": "beta", "flags": ["--tensor_parallel_size", "--tp_size"],
    },
    "backend": {
        "type": "Choice(['pytorch', '_autodeploy'])", "is_flag": False, "status": "deprecated", "flags": ["--backend"],
    },
    "grpc": {"type": "bool", "is_flag": True, "status": "prototype", "flags": ["--grpc"]},
}  # fmt: skip
DECLARED = """
class MoeLoadBalancerConfig(StrictBaseModel):
    num_slots: Optional[int] = None
    initial: Optional[Dict[int, List[int]]] = Field(default=None)
    _ep_rank: Optional[int] = PrivateAttr(default=None)
"""
READS = """
fused = os.environ.get(
    "TRTLLM_FUSED", "0") == "1"
other = os.environ.get("PATH")
"""


def test_references_of_tensorrt_llm(definitions, tmp_path):
    package, references = tmp_path / "tensorrt_llm", tmp_path / "tests" / "unittest" / "api_stability" / "references"
    files = {
        package / "usage" / "llm_args_golden_manifest.json": json.dumps({"TorchLlmArgs": MANIFEST}),
        package / "llmapi" / "llm_args.py": DECLARED,
        package / "_torch" / "modules" / "linear.py": READS,
        references / "trtllm_serve_cli.yaml": json.dumps(
            {"commands": {"serve": {"options": COMMAND}, "disaggregated": {"options": {"port": COMMAND["port"]}}}}
        ),
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True)
        path.write_text(text)
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a", "commit", "-qm", "a"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    read = definitions.trtllm(tmp_path)
    assert read["fields"] == {
        "cuda_graph_config": ["sizes"],
        "kv_cache_config": ["dtype", "events", "pool_ratio"],
        "kv_cache_config.events": ["publisher"],
        "moe_config": ["load_balancer"],
        "moe_config.load_balancer": ["initial", "num_slots"],
    }
    assert read["environment"] == ["TRTLLM_FUSED"]
    whole, text_, objects = ({"form": "one", "type": kind} for kind in ("int", "str", "json"))
    assert read["options"]["route"] == {"port": whole}
    assert read["options"]["start"] == {
        "backend": text_ | {"choices": ["_autodeploy", "pytorch"], "deprecated": True},
        "grpc": {"form": "switch"},
        "port": whole,
        "tensor_parallel_size": whole,
        "tp_size": whole,
    }
    assert read["options"]["serve"] == {
        "max_batch_size": whole,
        "enable_attention_dp": {"form": "one", "type": "bool"},
        "kv_cache_config": objects,
        "kv_cache_config.dtype": text_ | {"choices": ["auto", "fp8"]},
        "kv_cache_config.pool_ratio": {"form": "many", "type": "float"},
        "kv_cache_config.events": objects,
        "kv_cache_config.events.publisher": text_ | {"choices": ["zmq"]},
        "cuda_graph_config": objects,
        "cuda_graph_config.sizes": {"form": "many", "type": "int"},
        "topr": {"form": "one", "type": "float"},
        "second_manager": {"form": "one", "type": "any"},
        "moe_config": objects,
        "moe_config.load_balancer": objects,
        "moe_config.load_balancer.initial": objects,
        "moe_config.load_balancer.num_slots": whole,
    }
    assert json.loads(definitions.text(read)) == read


def test_a_check_minds_what_an_engine_says_and_not_where_it_was_read(definitions):
    shipped = json.loads((definitions.FOLDER / "trtllm.json").read_text())
    assert definitions.said(shipped) == definitions.said(shipped | {"source": {"tag": "another"}})
    assert definitions.said(shipped) != definitions.said(shipped | {"version": "another"})


def test_every_field_of_tensorrt_llm_has_an_option_of_its_own(definitions):
    shipped = json.loads((definitions.FOLDER / "trtllm.json").read_text())
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
