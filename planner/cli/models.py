"""`planner models list|show`."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from planner.cli.common import JsonOption, print_json, print_table, reported
from planner.text import grouped

models_app = typer.Typer(help="Transformers, read from Hugging Face config.json files.", no_args_is_help=True)

_COUNTS = ("parameters", "active_parameters", "published_parameters", "published_active_parameters")


@models_app.command("list")
def list_models(json_output: JsonOption = False) -> None:
    """List the shipped architectures."""
    from planner.catalog import architecture_names

    with reported():
        facts = [_facts(name) for name in architecture_names()]
    if json_output:
        print_json(facts)
        return
    headers = ("name", "huggingface id", "attention", "ffn", "precision", "parameters", "active", "kv cache", "licence")
    rows = [
        [f["name"], f["huggingface_id"], _mix(f["attention_layers"]), _mix(f["ffn_layers"]), f["precision"],
         _billions(f["parameters"]), _billions(f["active_parameters"]),
         f"{f['kv_cache_bytes_per_token'] / 1024:.0f} KiB", f["licence"]]
        for f in facts
    ]  # fmt: skip
    print_table(headers, rows)


@models_app.command("show")
def show_model(
    name: Annotated[str, typer.Argument(help="A shipped name, a Hugging Face id, or the path of a config.json.")],
    json_output: JsonOption = False,
) -> None:
    """Show what the cost model reads from an architecture, and its parameter count beside the published one."""
    with reported():
        facts = _facts(name)
    if json_output:
        print_json(facts)
        return
    # What a transformer does not have is left out; the counts are there even where they are zero.
    rows = [[key.replace("_", " "), _shown(key, value)] for key, value in facts.items() if value or key in _COUNTS]
    print_table([facts["name"], ""], rows[1:])


def _shown(key: str, value: Any) -> str:
    if key in ("attention_layers", "ffn_layers"):
        return _mix(value)
    if key in ("formats", "also"):
        return ", ".join(value) if key == "also" else _parts(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "yes" if value is True else str(value)
    return grouped(round(value))


def _mix(layers: Mapping[str, int]) -> str:
    """Return layer kinds like ``3 dense + 58 moe``."""
    return " + ".join(f"{count} {kind}" for kind, count in layers.items())


def _parts(formats: Mapping[str, Mapping[str, str]]) -> str:
    """Return the precisions whose checkpoints do not store every part in them."""
    special = {p: parts for p, parts in formats.items() if set(parts.values()) != {p}}
    written = (
        f"{p}: " + ", ".join(f"{part} {stored}" for part, stored in parts.items()) for p, parts in special.items()
    )
    return "; ".join(written) or "each precision in every part"


def _billions(count: float) -> str:
    return f"{count / 1e9:.2f} B"


def _facts(name: str) -> dict[str, Any]:
    from planner.catalog import architecture_names, load_about, load_architecture
    from planner.columns.census import census

    architecture = load_architecture(name).value
    facts: dict[str, Any] = architecture._asdict()
    facts["formats"] = {precision: parts._asdict() for precision, parts in architecture.formats.items()}
    facts |= census(architecture)
    if architecture.name in architecture_names():
        about = load_about(architecture.name)
        facts["huggingface_id"] = about.huggingface_id
        facts["also"] = list(about.also)
        facts["licence"] = about.licence
        facts["published_parameters"] = about.published_parameters.total
        facts["published_active_parameters"] = about.published_parameters.active
        facts["counting"] = about.counting
        facts["source"] = about.source
        facts["read_from"] = about.read_from
    return facts
