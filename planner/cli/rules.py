"""`planner rules`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli.common import JsonOption, print_json, print_table, reported

if TYPE_CHECKING:
    from planner.schema.base import Sourced
    from planner.schema.engine import Applies, Engine


def rules(
    name: Annotated[str, typer.Argument(metavar="ENGINE", help="A shipped engine: vllm, sglang, mindie …")],
    version: Annotated[str | None, typer.Option(help="Only what holds for this version.")] = None,
    json_output: JsonOption = False,
) -> None:
    """List what an engine allows, how it schedules and which fusions it has, each with its source."""
    from planner.catalog import load_engine

    with reported():
        engine = load_engine(name).value
    found = list(_rules(engine, version))
    if json_output:
        print_json(_facts(engine, version, found))
        return
    typer.echo(f"{engine.description}, read in version {', '.join(engine.versions)}\n")
    print_table(("rule", "what it says", "applies to", "source"), [_row(engine, rule) for rule in found])
    typer.echo()
    print_table(("scheduling", "", "source"), [[n, _shown(f), ", ".join(f.source)] for n, f in _scheduling(engine)])
    typer.echo()
    fusions = [
        [n, "on" if f.value else "off", f"since {f.since}" if f.since else "all read", ", ".join(f.source)]
        for n, f in engine.fusions.items()
    ]
    print_table(("fusion or overlap", "default", "applies to", "source"), fusions)
    typer.echo()
    print_table(("source", "title", "read"), [[k, s.title, s.accessed] for k, s in engine.sources.items()])


def _rules(engine: "Engine", version: str | None) -> Iterator["Applies"]:
    """Yield named rules, what follows from what the engine offers, and its restrictions."""
    from planner.columns.engine_rules import holds, offers

    yield from (r for r in (*engine.rules, *offers(engine), *engine.restrictions) if not version or holds(r, version))


def _row(engine: "Engine", rule: "Applies") -> list[str]:
    title, says = _said(rule)
    return [title, says, _versions(rule), ", ".join(rule.source)]


def _said(rule: "Applies") -> tuple[str, str]:
    """Return the name of a rule and what it says."""
    from planner.columns.engine_rules import ENGINE_RULES
    from planner.schema.engine import Restriction, Rule

    if isinstance(rule, Rule):
        return rule.rule, ENGINE_RULES[rule.rule].meaning
    assert isinstance(rule, Restriction)
    return rule.name, rule.says


def _versions(rule: "Applies") -> str:
    parts = [f"since {rule.since}" if rule.since else "", f"before {rule.until}" if rule.until else ""]
    return ", ".join(filter(None, parts)) or "all read"


def _scheduling(engine: "Engine") -> Iterator[tuple[str, "Sourced[Any]"]]:
    """Yield how it schedules, and how its parts work together."""
    from planner.schema.base import Sourced

    for room in (engine.scheduling, engine, engine.disaggregation):
        for field, value in room or ():
            if isinstance(value, Sourced) and (room is not engine or field in ("attention_dp", "redundant_experts")):
                yield field, value


def _shown(fact: "Sourced[Any]") -> str:
    value = fact.value
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _facts(engine: "Engine", version: str | None, found: list["Applies"]) -> dict[str, Any]:
    listed = [
        {"rule": title, "says": says} | rule.model_dump(mode="json", include={"since", "until", "source", "note"})
        for rule, (title, says) in ((rule, _said(rule)) for rule in found)
    ]
    whole = engine.model_dump(mode="json", include={"name", "versions", "scheduling", "disaggregation", "fusions"})
    return whole | {"version": version, "rules": listed, "sources": engine.model_dump(mode="json")["sources"]}
