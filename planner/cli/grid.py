"""`planner grid`: the published search grid."""

import typer

from planner.cli.common import JsonOption, print_json, print_table
from planner.text import runs


def grid(json_output: JsonOption = False) -> None:
    """Show the variables that are searched, their default values, and how a scenario restricts them."""
    from planner.columns.grid import DERIVED, GRID

    if json_output:
        print_json(
            {
                "searched": [v._asdict() for v in GRID],
                "derived": [{"name": n, "from": f} for n, f in DERIVED],
            }
        )
        return
    rows = [[v.name, runs(v.values) or "(by engine or scenario)", v.scenario_field, v.reason] for v in GRID]
    print_table(["variable", "values", "restricted by", "why these"], rows)
    typer.echo()
    print_table(["not searched", "because"], [list(pair) for pair in DERIVED])
