"""What an engine's command line accepts, read out of the engine's own parsers: the data that launch files are held to.

    python benchmarks/engine_definitions.py vllm           # in an environment with vLLM 0.24.0, writes the data file
    python benchmarks/engine_definitions.py sglang --check # says whether the file is what SGLang 0.5.23 says
    python benchmarks/engine_definitions.py vllm --source PATH  # of an unpacked package instead of an installed one
    python benchmarks/engine_definitions.py vllm-ascend --source CHECKOUT  # read from its sources, at a tag

Names, types, legal values and defaults are taken, no text: for each option its form (``switch``, ``pair`` of --x and
--no-x, ``one`` value, ``many``), the type of its values, the choices, and the fields of those that are JSON objects.
Engines with a parser are read by engine_parsers.py, others by engine_sources.py.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from engine_parsers import router, sglang, vllm
from engine_sources import aiperf, dynamo, mindie, trtllm, vllm_ascend

FOLDER = Path(__file__).resolve().parent.parent / "planner" / "launch" / "definitions"
READERS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "vllm": vllm,
    "sglang": sglang,
    "vllm-router": lambda: router("vllm"),
    "sglang-router": lambda: router("sglang"),
}
SOURCES: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    "vllm-ascend": vllm_ascend,
    "aiperf": aiperf,
    "dynamo": dynamo,
    "mindie": mindie,
    "trtllm": trtllm,
}


def text(data: Mapping[str, Any]) -> str:
    """Return a definition as JSON, an option a line."""
    lines = [
        "{",
        *(
            f"  {_json(name)}: {_json(data[name])},"
            for name in ("engine", "version", "source", "extends")
            if name in data
        ),
    ]
    lines.append('  "fields": {' + _block(data["fields"].items(), "    ") + "},")
    lines.append(f'  "environment": {_json(data["environment"])},')
    programs = [f"    {_json(name)}: {{{_block(found.items(), '      ')}}}" for name, found in data["options"].items()]
    lines.append('  "options": {\n' + ",\n".join(programs) + "\n  }")
    return "\n".join([*lines, "}", ""])


def _block(items: Iterable[tuple[str, Any]], indent: str) -> str:
    lines = [f"{indent}{_json(name)}: {_json(value)}" for name, value in items]
    return "\n" + ",\n".join(lines) + "\n" + indent[2:] if lines else ""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def said(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a definition without where it was read."""
    return {name: value for name, value in data.items() if name != "source"}


def main() -> int:
    parser = argparse.ArgumentParser(description="Write what an engine's command line accepts as data.")
    parser.add_argument("engine", choices=sorted({*READERS, *SOURCES}))
    parser.add_argument("--source", type=Path, help="unpacked package, used before an installed one")
    parser.add_argument("--name", help="of the file, for another version than the pinned one; default: the engine's")
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    chosen = parser.parse_args()
    if chosen.source:
        sys.path.insert(0, str(chosen.source))
    os.environ |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "CRITICAL",
                   "CUDA_VISIBLE_DEVICES": ""}  # fmt: skip
    logging.disable(logging.CRITICAL)
    sys.argv = sys.argv[:1]
    if chosen.engine in SOURCES and not chosen.source:
        parser.error(f"{chosen.engine} is read from a checkout: --source PATH")
    data = SOURCES[chosen.engine](chosen.source) if chosen.engine in SOURCES else READERS[chosen.engine]()
    found, path = text(data), FOLDER / f"{chosen.name or chosen.engine}.json"
    if chosen.check:
        same = path.exists() and said(json.loads(path.read_text(encoding="utf-8"))) == said(data)
        print(f"{path.name}: {'as' if same else 'not as'} the engine says")
        return 0 if same else 1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(found, encoding="utf-8")
    print(f"{path.name}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
