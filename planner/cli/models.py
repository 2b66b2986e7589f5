"""`planner models list|show`."""

from typing import Annotated, Any

import typer

from planner.cli.common import JsonOption, print_json, print_table, reported
from planner.text import grouped

models_app = typer.Typer(help="Transformers, read from Hugging Face config.json files.", no_args_is_help=True)


@models_app.command("list")
def list_models(json_output: JsonOption = False) -> None:
    """List the shipped architectures."""
    from planner.catalog import architecture_names

    with reported():
        facts = [_facts(name) for name in architecture_names()]
    if json_output:
        print_json(facts)
        return
    keys = (
        "name",
        "huggingface_id",
        "parameters",
        "active_parameters",
        "kv_cache_bytes_per_token",
        "licence",
    )
    rows = [
        [f["name"], f["huggingface_id"], _billions(f["parameters"]), _billions(f["active_parameters"]),
         f"{f['kv_cache_bytes_per_token'] / 1024:.0f} KiB", f["licence"]]
        for f in facts
    ]  # fmt: skip
    print_table([key.replace("_", " ").removesuffix(" bytes per token") for key in keys], rows)


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
    print_table(
        [facts["name"], ""],
        [[key.replace("_", " "), _shown(value)] for key, value in facts.items() if key != "name"],
    )


def _shown(value: object) -> str:
    return grouped(round(value)) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _billions(count: float) -> str:
    return f"{count / 1e9:.2f} B"


def _facts(name: str) -> dict[str, Any]:
    from planner.catalog import architecture_names, load_about, load_architecture
    from planner.columns.census import census

    architecture = load_architecture(name).value
    counted = census(architecture)
    facts: dict[str, Any] = {**architecture._asdict(), **counted}
    if architecture.name in architecture_names():
        about = load_about(architecture.name)
        facts["huggingface_id"] = about.huggingface_id
        facts["licence"] = about.licence
        facts["published_parameters"] = about.published_parameters.total
        facts["source"] = about.source
    return facts
