"""What engines accept, out of their sources and documentation, where a parser cannot be run: read, never imported."""

import ast
import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from planner import yaml_io

PROXY = "examples/disaggregated_prefill_v1/load_balance_proxy_server_example.py"
_WORDS = {"bool": "bool", "int": "int", "float": "float", "map": "json"}  # parts of the types that MindIE documents


def vllm_ascend(source: Path) -> dict[str, Any]:
    """Return what vllm-ascend adds to vLLM, from its sources: keys of --additional-config, and variables."""
    config = ast.parse((source / "vllm_ascend" / "ascend_config.py").read_text(encoding="utf-8"))
    envs = ast.parse((source / "vllm_ascend" / "envs.py").read_text(encoding="utf-8"))
    classes = {node.name: node for node in config.body if isinstance(node, ast.ClassDef)}
    nested = {
        "ascend_compilation_config": "AscendCompilationConfig",
        "eplb_config": "EplbConfig",
        "finegrained_tp_config": "FinegrainedTPConfig",
        "xlite_graph_config": "XliteGraphConfig",
    }
    return {
        "engine": "vllm-ascend",
        "version": _described(source).removeprefix("v"),
        "source": {
            "repository": "https://github.com/vllm-project/vllm-ascend",
            "tag": _described(source),
            "licence": "Apache-2.0",
            "paths": ["vllm_ascend/ascend_config.py", "vllm_ascend/envs.py", PROXY],
        },
        "extends": "vllm",
        "fields": {
            "additional-config": _keys(classes["AscendConfig"], "additional_config"),
            **{f"additional-config.{key}": _keys(classes[name]) for key, name in nested.items()},
        },
        "environment": sorted({*_dictionary_keys(envs), "DYNAMIC_EPLB"}),
        "options": {"route": _arguments(ast.parse((source / PROXY).read_text(encoding="utf-8")))},
    }


def _arguments(tree: ast.AST) -> dict[str, dict[str, Any]]:
    """Return the options that a script adds to its parser."""
    found: dict[str, dict[str, Any]] = {}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"):
            continue
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        name, kind = ast.literal_eval(node.args[0]).removeprefix("--"), getattr(given.get("type"), "id", "str")
        found[name] = {"form": "many" if "nargs" in given else "one", "type": kind}
    return dict(sorted(found.items()))


def aiperf(source: Path) -> dict[str, Any]:
    """Return what ``aiperf profile`` accepts, from the class that its command line is made of."""
    tree = ast.parse((source / "aiperf" / "config" / "flags" / "cli_config.py").read_text(encoding="utf-8"))
    found: dict[str, dict[str, Any]] = {}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.annotation, ast.Subscript)):
            continue
        parts = getattr(node.annotation.slice, "elts", [])
        named = [
            c for part in parts for c in ast.walk(part) if getattr(getattr(c, "func", None), "id", "") == "CLIParameter"
        ]
        names = [ast.literal_eval(k.value) for call in named for k in getattr(call, "keywords", []) if k.arg == "name"]
        for name in ([names[0]] if isinstance(names[0], str) else names[0]) if names else ():
            if name.startswith("--"):
                found[name[2:]] = _annotated(ast.unparse(parts[0]), ast.unparse(node.annotation))
    version = next(source.glob("aiperf-*.dist-info")).name.removeprefix("aiperf-").removesuffix(".dist-info")
    return {
        "engine": "aiperf",
        "version": version,
        "source": {
            "repository": "https://github.com/ai-dynamo/aiperf",
            "tag": f"wheel {version}",
            "licence": "Apache-2.0",
            "paths": ["aiperf/config/flags/cli_config.py"],
        },
        "fields": {},
        "environment": [],
        "options": {"bench": dict(sorted(found.items()))},
    }


def _annotated(kind: str, whole: str) -> dict[str, Any]:
    """Return form and type of an option from its annotation; lists that may be given as one value are one."""
    if kind.startswith("bool"):
        return {"form": "switch"}
    for name in ("int", "float"):
        if kind.startswith(name) or f"parse_{name}_or" in whole:
            return {"form": "one", "type": name}
    return {"form": "one", "type": "str"}


def dynamo(source: Path) -> dict[str, Any]:
    """Return what Dynamo's workers accept beside their engines' options."""
    version = next(source.glob("ai_dynamo-*.dist-info")).name.removeprefix("ai_dynamo-").removesuffix(".dist-info")
    found: dict[str, dict[str, Any]] = {}
    for backend in ("vllm", "sglang", "trtllm"):
        tree = ast.parse((source / "dynamo" / backend / "backend_args.py").read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        given = [{k.arg: k.value for k in call.keywords} for call in calls]
        flags = [
            (ast.literal_eval(k["flag_name"])[2:], getattr(k.get("arg_type"), "id", "str"), call.func.id)  # type: ignore[attr-defined]
            for call, k in zip(calls, given, strict=True)
            if isinstance(k.get("flag_name"), ast.Constant)
        ]
        found[backend] = {
            name: {"form": "pair"}
            if "bool" in maker
            else {"form": "one", "type": kind if kind in ("int", "float") else "str"}
            for name, kind, maker in sorted(flags)
        }
    return {
        "engine": "dynamo",
        "version": version,
        "source": {
            "repository": "https://github.com/ai-dynamo/dynamo",
            "tag": f"wheel {version}",
            "licence": "Apache-2.0",
            "paths": [f"dynamo/{backend}/backend_args.py" for backend in found],
        },
        "fields": {},
        "environment": [],
        "options": found,
    }


def mindie(source: Path) -> dict[str, Any]:
    """Return the keys of MindIE's config.json, from its documentation and, where these are set, its defaults."""
    guide, model = source / "docs" / "zh" / "user_guide", "BackendConfig.ModelDeployConfig.ModelConfig"
    schedule = "BackendConfig.ScheduleConfig"
    paths = {
        "user_manual/service_parameter_configuration.md": {
            "配置文件参数说明": "", "ServerConfig参数说明": "ServerConfig", "BackendConfig参数说明": "BackendConfig",
            "HealthCheckConfig参数说明": "ServerConfig.HealthCheckConfig", "ModelConfig参数说明": model,
            "ModelDeployConfig参数说明": "BackendConfig.ModelDeployConfig", "ScheduleConfig参数说明": schedule,
            "LogConfig参数说明": "LogConfig",
        },
        "feature/data_parallel.md": {"参数说明": model},
        "feature/splitFuse.md": {"ModelConfig": model, "ScheduleConfig": schedule},
    }  # fmt: skip
    defaults = _of_defaults(
        json.loads((source / "src" / "server" / "conf" / "config.json").read_text(encoding="utf-8"))
    )
    found: dict[str, dict[str, Any]] = {}
    for name, sections in paths.items():
        found |= _of_tables((guide / name).read_text(encoding="utf-8"), sections)
    adapter = source / "mindie_llm" / "text_generator" / "adapter" / "generator_backend.py"
    read = re.findall(r'parse_config\(\s*model_config, "(\w+)"[^)]*TO_INT', adapter.read_text(encoding="utf-8"))
    found |= {f"{model}.{name}": {"form": "one", "type": "int"} for name in read}
    found |= {name: found.get(name, {}) | option for name, option in defaults.items()}
    fields: dict[str, list[str]] = {}
    for path in sorted(found):
        of, _, name = path.rpartition(".")
        fields.setdefault(of, []).append(name)
    fields.pop("", None)
    variables = ["user_manual/environment_variable.md", "user_manual/prefill_decode_mixed_deployment.md"]
    listed = "\n".join((guide / name).read_text(encoding="utf-8") for name in variables)
    return {
        "engine": "mindie",
        "version": "3.0.0",
        "source": {
            "repository": "https://github.com/Ascend/MindIE-LLM",
            "tag": "8b4871a",
            "licence": "Mulan PSL v2",
            "paths": ["src/server/conf/config.json",
                      *(f"docs/zh/user_guide/{name}" for name in (*paths, *variables)),
                      "mindie_llm/text_generator/adapter/generator_backend.py"],
        },
        "fields": fields,
        "environment": sorted(set(re.findall(r"^\s*\|\s*([A-Z][A-Z0-9]*_[A-Z0-9_]+)\s*\|", listed, re.MULTILINE))),
        "options": {"serve": dict(sorted(found.items()))},
    }  # fmt: skip


def _of_defaults(data: Mapping[str, Any], path: str = "") -> dict[str, dict[str, Any]]:
    """Return an option for each key of a configuration, by the type of its default."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in data.items():
        here, inner = f"{path}{name}", value[0] if isinstance(value, list) and value else value
        kind = {bool: "bool", int: "int", float: "float", dict: "json", list: "any"}.get(type(inner), "str")
        found[here] = {"form": "many" if isinstance(value, list) else "one", "type": kind}
        if isinstance(inner, dict):
            found |= _of_defaults(inner, f"{here}.")
    return found


def _of_tables(text_: str, sections: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the options that tables list below headings that hold a section's name: name, type, legal values."""
    found: dict[str, dict[str, Any]] = {}
    section: str | None = None
    for line in text_.splitlines():
        if line.startswith(("#", "**表")):
            matches = [name for name in sections if name in line]
            section = max(matches, key=len) if matches else section
        cells = line.split("|")
        if section is None or len(cells) < 5 or not re.fullmatch(r"[A-Za-z_]\w*", cells[1].strip()):
            continue
        kind = next((of for word, of in _WORDS.items() if word in cells[2].lower()), "str")
        path = ".".join(filter(None, (sections[section], cells[1].strip())))
        listed = re.findall(r'<li>"([^"\\\\]+)"', cells[3])
        many = "vector" in cells[2] or "set" in cells[2]
        found[path] = {"form": "many" if many else "one", "type": kind}
        found[path] |= {"choices": sorted(listed)} if listed else {}
    return found


def trtllm(source: Path) -> dict[str, Any]:
    """Return what TensorRT-LLM's options file and ``trtllm-serve`` accept, from the references its own tests hold.

    The manifest lists no fields of the load balancer, which a class of the options declares, and no variables.
    """
    paths = ["tensorrt_llm/usage/llm_args_golden_manifest.json",
             "tests/unittest/api_stability/references/trtllm_serve_cli.yaml",
             "tensorrt_llm/llmapi/llm_args.py", "tensorrt_llm/_torch/modules/linear.py"]  # fmt: skip
    listed, commands, declared, layers = (source / path for path in paths)
    manifest = [*json.loads(listed.read_text(encoding="utf-8"))["TorchLlmArgs"], *_of_balancer(declared)]
    programs = yaml_io.load(commands).data["commands"]
    return {
        "engine": "trtllm",
        "version": "1.3.0rc29",
        "source": {
            "repository": "https://github.com/NVIDIA/TensorRT-LLM",
            "tag": _described(source),
            "licence": "Apache-2.0",
            "paths": paths,
        },
        "fields": _nested(manifest),
        "environment": sorted(
            set(re.findall(r'os\.environ\.get\(\s*"(TRTLLM_\w+)"', layers.read_text(encoding="utf-8")))
        ),
        "options": {
            "serve": {e["path"]: _of_manifest(e) for e in manifest} | _roots(manifest),
            "start": _of_commands(programs["serve"]["options"]),
            "route": _of_commands(programs["disaggregated"]["options"]),
        },
    }


def _of_balancer(declared: Path) -> list[dict[str, Any]]:
    """Return the fields of the class that balances experts, as the manifest lists those of others."""
    tree = ast.parse(declared.read_text(encoding="utf-8"))
    classes = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "MoeLoadBalancerConfig")
    fields = [node for node in next(classes).body if isinstance(node, ast.AnnAssign)]
    return [
        {"path": f"moe_config.load_balancer.{node.target.id}", "annotation": ast.unparse(node.annotation)}
        for node in fields
        if isinstance(node.target, ast.Name) and not node.target.id.startswith("_")
    ]


def _roots(manifest: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the options that are objects: everything before a dot of a path."""
    return {name: {"form": "one", "type": "json"} for name in sorted(_nested(manifest))}


def _nested(manifest: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the fields of each object, those that are objects themselves among them."""
    fields: dict[str, set[str]] = {}
    for path in (entry["path"] for entry in manifest):
        while "." in path:
            of, _, name = path.rpartition(".")
            fields.setdefault(of, set()).add(name)
            path = of
    return {of: sorted(names) for of, names in sorted(fields.items())}


def _of_manifest(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an option's form, type and legal values from how it is annotated."""
    text = re.sub(r"Literal\[[^]]*\]", "Literal", entry["annotation"])
    kinds = set(re.findall(r"\b(?:bool|float|int|str|Dict|Literal)\b", text))
    many = re.search(r"\b(?:List|Set)\[", text) and "Dict" not in kinds
    kind = "str" if kinds <= {"str", "Literal"} else kinds.pop() if len(kinds) == 1 else "any"
    kind = "json" if "Dict" in kinds else "float" if kinds == {"float", "int"} else kind
    choices = {"choices": sorted(entry["allowed_values"])} if kind == "str" and entry.get("allowed_values") else {}
    return {"form": "many" if many else "one", "type": kind} | choices


def _of_commands(options_: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return a command's options by each of their flags; one that takes no value can be turned off by another."""
    found: dict[str, dict[str, Any]] = {}
    for entry in options_.values():
        kind = entry["type"] if entry["type"] in ("int", "float") else "str"
        choices = re.findall(r"'([^']+)'", entry["type"])
        one = {"form": "one", "type": kind} | ({"choices": sorted(choices)} if choices else {})
        form = ({"form": "switch"} if entry["is_flag"] else one) | _of_status(entry)
        found |= {flag[2:]: form for flag in entry["flags"] if flag.startswith("--")}
    return dict(sorted(found.items()))


def _of_status(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"deprecated": True} if entry["status"] == "deprecated" else {}


def _described(source: Path) -> str:
    return subprocess.check_output(["git", "-C", str(source), "describe", "--tags", "--always"], text=True).strip()


def _keys(found: ast.ClassDef, mapping: str = "") -> list[str]:
    """Return the keys that a class reads of a mapping (of any, without its name), its defaults and parameters."""
    keys: set[str] = set()
    for node in ast.walk(found):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            names = [a.id for a in node.args if isinstance(a, ast.Name)]
            if (node.func.attr == "get" and (of == mapping or not mapping)) or mapping in names:
                keys |= set(texts[:1])
        if isinstance(node, ast.FunctionDef) and node.name == "__init__" and not mapping:
            keys |= {a.arg for a in node.args.args if a.annotation and getattr(a.annotation, "id", "") == "bool"}
    return sorted(keys | (set() if mapping else set(_dictionary_keys(found))))


def _dictionary_keys(tree: ast.AST) -> list[str]:
    """Return the text keys of every dictionary that is written out in a tree."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Dict)]
    return [k.value for node in found for k in node.keys if isinstance(k, ast.Constant) and isinstance(k.value, str)]
