"""What engines accept, out of their own parsers: these are built as the engines build them, and looked at.

Nothing needs a GPU: engine_validators.py plays one. Packages are imported when they are asked for.
"""

import argparse
import dataclasses
import importlib
import importlib.metadata
import math
import re
from collections.abc import Callable
from typing import Any

SCALARS = (bool, int, float, str, type(None))


def option(action: argparse.Action) -> dict[str, Any]:
    """Return what one option accepts."""
    shape = type(action).__name__
    found: dict[str, Any] = {"form": _form(action, shape)}
    if found["form"] in ("one", "many"):
        found["type"] = _type(action)
    if action.choices is not None:
        found["choices"] = sorted(map(str, action.choices))
    if isinstance(action.default, SCALARS) and not _drawn(action.default):
        found["default"] = action.default
    if action.required:
        found["required"] = True
    if "Deprecated" in shape:
        found["deprecated"] = True
    return found


def _drawn(default: Any) -> bool:
    """Tell a default that says nothing: argparse's own mark, an infinity, or text that is drawn anew each time."""
    return default in (argparse.SUPPRESS, math.inf) or bool(re.search(r"-[0-9a-f]{8}-", str(default)))


def _form(action: argparse.Action, shape: str) -> str:
    if shape == "BooleanOptionalAction":
        return "pair"
    if action.nargs == 0:
        return "switch"
    return "many" if action.nargs in ("+", "*") or isinstance(action.nargs, int) else "one"


def _type(action: argparse.Action) -> str:
    """Return the type of a value, by what the parser's own converter takes: engines wrap theirs."""
    if not callable(action.type):
        return "str"
    takes = {text: _converts(action.type, text) for text in ("{}", "x", "7", "1.5")}
    if takes["x"]:
        return "str"
    if takes["{}"]:
        return "json"
    return "float" if takes["1.5"] else "int"


def _converts(convert: Callable[[str], Any], text: str) -> bool:
    try:
        convert(text)
    except Exception:
        return False
    return True


def options(parser: argparse.ArgumentParser) -> dict[str, dict[str, Any]]:
    """Return every option by its first long name, without the dashes."""
    found = {}
    for action in parser._actions:
        names = [name for name in action.option_strings if name.startswith("--")]
        if not names or action.dest == "help":
            continue
        entry = option(action)
        others = [name for name in action.option_strings if name != names[0]]
        others = [name for name in others if not (entry["form"] == "pair" and name.startswith("--no-"))]
        found[names[0][2:]] = entry | ({"also": others} if others else {})
    return dict(sorted(found.items()))


def fields_of(cls: type) -> list[str]:
    """Return the fields that an object of a configuration class may have."""
    return sorted(field.name for field in dataclasses.fields(cls) if field.init)


def vllm() -> dict[str, Any]:
    """Return what ``vllm serve`` and ``vllm bench serve`` accept."""
    from engine_validators import play_vllm

    play_vllm()
    import vllm as package  # type: ignore[import-not-found]
    from vllm import _version, config, envs
    from vllm.benchmarks.serve import add_cli_args  # type: ignore[import-not-found]
    from vllm.config.parallel import EPLBConfig  # type: ignore[import-not-found]
    from vllm.entrypoints.openai.cli_args import make_arg_parser  # type: ignore[import-not-found]
    from vllm.utils.argparse_utils import FlexibleArgumentParser  # type: ignore[import-not-found]

    serve, bench = make_arg_parser(FlexibleArgumentParser()), FlexibleArgumentParser()
    add_cli_args(bench)
    objects = {
        "kv-transfer-config": config.KVTransferConfig,
        "speculative-config": config.SpeculativeConfig,
        "eplb-config": EPLBConfig,
        "compilation-config": config.CompilationConfig,
        "compilation-config.pass_config": config.PassConfig,
    }
    return {
        "engine": "vllm",
        "version": package.__version__,
        "source": {
            "repository": "https://github.com/vllm-project/vllm",
            "tag": f"v{package.__version__}",
            "commit": str(_version.commit_id).removeprefix("g"),
            "licence": "Apache-2.0",
            "paths": ["vllm/entrypoints/openai/cli_args.py", "vllm/engine/arg_utils.py", "vllm/config", "vllm/envs.py",
                      "vllm/benchmarks/serve.py"],
        },
        "fields": {name: fields_of(cls) for name, cls in objects.items()},
        "environment": sorted(envs.environment_variables),
        "options": {"serve": options(serve), "bench": options(bench)},
    }  # fmt: skip


def sglang() -> dict[str, Any]:
    """Return what ``sglang.launch_server`` and ``sglang.bench_serving`` accept."""
    from engine_validators import play_sglang

    play_sglang()
    from sglang.srt.environ import Envs  # type: ignore[import-not-found]
    from sglang.srt.server_args import ServerArgs  # type: ignore[import-not-found]
    from sglang.version import __version__  # type: ignore[import-not-found]

    serve = argparse.ArgumentParser()
    ServerArgs.add_cli_args(serve)
    bench = _caught(lambda: importlib.import_module("sglang.benchmark.serving").cli_main(), "sglang.benchmark.serving")
    return {
        "engine": "sglang",
        "version": __version__,
        "source": {
            "repository": "https://github.com/sgl-project/sglang",
            "tag": f"v{__version__}",
            "licence": "Apache-2.0",
            "paths": ["python/sglang/srt/server_args.py", "python/sglang/srt/arg_groups",
                      "python/sglang/srt/environ.py", "python/sglang/benchmark/serving.py"],
        },
        "fields": {},
        "environment": sorted(name for name in vars(Envs) if name.isupper()),
        "options": {"serve": options(serve), "bench": options(bench)},
    }  # fmt: skip


def router(engine: str) -> dict[str, Any]:
    """Return what the router of an engine accepts, from its package."""
    package = f"{engine}_router"
    arguments = importlib.import_module(f"{package}.router_args").RouterArgs
    parser = argparse.ArgumentParser()
    arguments.add_cli_args(parser)
    version = importlib.metadata.version(f"{engine}-router")
    home = {"vllm": "vllm-project/router", "sglang": "sgl-project/sglang"}[engine]
    return {
        "engine": f"{engine}-router",
        "version": version,
        "source": {
            "repository": f"https://github.com/{home}",
            "tag": f"wheel {version}",
            "licence": "Apache-2.0",
            "paths": [f"{package}/router_args.py"],
        },
        "fields": {},
        "environment": [],
        "options": {"route": options(parser)},
    }


def _caught(run: Callable[[], Any], module: str) -> argparse.ArgumentParser:
    """Return the parser that a script builds, from its first call to read arguments."""

    class _Caught(Exception):
        pass

    kept: list[argparse.ArgumentParser] = []

    def stop(self: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        kept.append(self)
        raise _Caught

    before, argparse.ArgumentParser.parse_args = argparse.ArgumentParser.parse_args, stop  # type: ignore[assignment]
    try:
        run()
    except _Caught:
        return kept[0]
    finally:
        argparse.ArgumentParser.parse_args = before  # type: ignore[method-assign]
    msg = f"{module} reads no arguments"
    raise RuntimeError(msg)
