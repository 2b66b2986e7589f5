"""`planner why-not`: what another configuration would cost, or what stands in its way."""

from pathlib import Path
from typing import Annotated, Any

import typer

from planner.cli.common import FolderOption, JsonOption, print_json, reported
from planner.errors import EXIT_INFEASIBLE

_ONE = "It is enough that one such replica serves something; otherwise all requests pass through such replicas."
Whole = Annotated[int | None, typer.Option(show_default=False)]
Text = Annotated[str | None, typer.Option(show_default=False)]


def why_not(
    plan: Annotated[Path, typer.Argument(help="A plan file, as `planner solve --out` writes it.", show_default=False)],
    workload: Text = None,
    role: Annotated[str | None, typer.Option(help="mixed, prefill or decode.", show_default=False)] = None,
    inventory: Text = None,
    hardware: Text = None,
    engine: Text = None,
    tp: Whole = None,
    pp: Whole = None,
    attention_dp: Whole = None,
    ep: Whole = None,
    moe_tp: Whole = None,
    weight_precision: Text = None,
    kv_precision: Text = None,
    max_num_seqs: Whole = None,
    max_num_batched_tokens: Whole = None,
    mean_running: Whole = None,
    prefill_utilisation: Whole = None,
    prefill_policy: Text = None,
    overlap: Annotated[list[str] | None, typer.Option(help="A fusion that is on. May be repeated.")] = None,
    context_parallel: Whole = None,
    redundant_experts: Whole = None,
    block_size: Whole = None,
    speculative_tokens: Whole = None,
    replicas: Annotated[int | None, typer.Option(help="How many such replicas run.", show_default=False)] = None,
    at_least_one: Annotated[bool, typer.Option("--at-least-one", help=_ONE)] = False,
    folder: FolderOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show the best plan whose replicas are as asked, and its price against the plan; or the rule that forbids it.

    Options carry the names of a plan file, and what is left out is free. Values that the scenario does not search are
    tried all the same.

    Exit codes: 0 there is such a plan, 2 bad input, 3 there is none.
    """
    given: dict[str, Any] = {**locals(), "overlaps": tuple(overlap or ())}
    from planner.columns.restriction import Restriction
    from planner.explain.words import why_not_blocks
    from planner.exporters.blocks import as_text
    from planner.plan import as_data
    from planner.studies.resolve import solved_question
    from planner.studies.why_not import why_not as answered

    with reported():
        case, best = solved_question(plan, folder)
        asked = Restriction(**{name: given[name] for name in Restriction._fields})
        found = answered(case, best, asked, at_least_one=at_least_one)
    if json_output:
        print_json(as_data(found))
    else:
        typer.echo(as_text(why_not_blocks(found)), nl=False)
    raise typer.Exit(0 if found.other is not None else EXIT_INFEASIBLE)
