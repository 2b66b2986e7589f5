"""`planner init`: a commented scenario to start from."""

import math
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.common import reported
from planner.errors import InputError, Problem

if TYPE_CHECKING:
    from planner.schema.architecture import Architecture
    from planner.schema.engine import Engine
    from planner.schema.hardware import Hardware
    from planner.schema.precision import Precision

_ROOM = 1.7  # of the weights' size
_FIRST = ("vllm", "vllm-ascend")  # what a first scenario is written for, where the device can run it
TEMPLATE = """\
# A planning question for `planner solve`. Every quantity carries its unit; `planner schema` describes all fields.
schema_version: 1
name: {name}

models:
  main:
    architecture: {model}          # `planner models list`, or the path of a Hugging Face config.json
    precisions: [{precision}]        # of the weights

inventory:
  devices:
    hardware: {hardware}           # `planner hardware list`, or the path of a specification of yours
    nodes: {nodes}                       # or devices: 8
    # price: 2.50 USD/h            # per device; needed to minimise cost
    # reserved_devices: 0          # kept out of the plan

engine: {{name: {engine}}}

workloads:
  chat:
    model: main
    requests: max                  # max | 12 /s | {{concurrency: 256}}
    input_tokens: 2000 token
    output_tokens: 300 token
    slo: {{ttft: 1 s, tpot: 60 ms}}  # limits on means

objective: {{maximize: requests}}    # or minimize: devices | cost | power, with a rate above; or a list of goals

# search: {{tp: [1, 2, 4]}}          # restricts the published grid: `planner grid`
"""


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("scenario.yaml"),
    model: Annotated[str, typer.Option(help="An architecture.")] = "Qwen/Qwen3-32B",
    hardware: Annotated[str, typer.Option(help="A device.")] = "h100-sxm",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a commented scenario that solves as it stands."""
    from planner import yaml_io
    from planner.catalog import engine_names, load_architecture, load_engine, load_hardware

    with reported():
        yaml_io.check_writable(path)
        if path.exists() and not force:
            raise InputError.single(str(path), "exists already; choose another name, or add --force")
        problems: list[Problem] = []
        for load, name in ((load_architecture, model), (load_hardware, hardware)):
            try:
                load(name)
            except InputError as error:
                problems += error.problems
        if problems:
            raise InputError(problems)
        architecture, device = load_architecture(model).value, load_hardware(hardware).value
        vendor = device.vendor
        engines = [name for name in _FIRST + engine_names() if vendor in load_engine(name).value.vendors]
        if not engines:
            message = f"no shipped engine runs on devices of {vendor}; choose another device"
            raise InputError.single(hardware, message, "--hardware")
        engine = engines[0]
        precision = _served(architecture, load_engine(engine).value)
        nodes = _enough_nodes(architecture, precision, device)
        model, hardware = (_from_folder_of(path, name) for name in (model, hardware))
        words = {"name": path.stem, "model": model, "hardware": hardware, "engine": engine, "precision": precision}
        fields = {field: yaml_io.scalar_text(word) for field, word in words.items()}
        text = TEMPLATE.format_map(fields | {"nodes": str(nodes)})
        yaml_io.write_text(path, text)
    typer.echo(f"wrote {path}; now run: planner solve {shlex.quote(str(path))}")


def _served(architecture: "Architecture", engine: "Engine") -> "Precision":
    """Return the checkpoint's own precision, or the next one that the engine serves."""
    served = engine.weight_precisions.value
    wanted: tuple[Precision, ...] = (architecture.precision, "fp8", "int8", "bf16")
    return next(precision for precision in wanted if precision in served)


def _enough_nodes(architecture: "Architecture", precision: "Precision", device: "Hardware") -> int:
    """Return nodes, a power of two, whose memory holds the weights and room to work."""
    from planner.columns.census import census
    from planner.schema.precision import FORMATS

    weights = census(architecture)["parameters"] * FORMATS[precision].bytes_per_value
    devices = math.ceil(_ROOM * weights / device.memory.capacity.value)
    return int(2 ** math.ceil(math.log2(max(1, math.ceil(devices / device.devices_per_node.value)))))


def _from_folder_of(scenario: Path, name: str) -> str:
    """Write a path as the scenario must, relative to its own folder; names stay as they are."""
    from planner.catalog import is_path

    return os.path.relpath(name, scenario.parent) if is_path(name) else name
