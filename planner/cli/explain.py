"""`planner explain`: where a plan's time goes, what binds, what would change it."""

from pathlib import Path
from typing import Annotated

import typer

from planner.cli.common import FolderOption, JsonOption, PlotOption, print_json, reported


def explain(
    plan: Annotated[Path, typer.Argument(help="A plan file, as `planner solve --out` writes it.", show_default=False)],
    folder: FolderOption = None,
    plot: PlotOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show why a plan is what it is: the time budget of each deployment, what binds, and what to improve first.

    Exit codes: 0 explained, 2 not a plan file, a plan without deployments, or one whose specifications have changed.
    """
    from planner.explain.words import explanation_blocks
    from planner.exporters.blocks import as_text
    from planner.exporters.json_file import read_plan
    from planner.plan import as_data
    from planner.studies.explain import explain as explained

    with reported():
        found = explained(read_plan(plan), folder or plan.parent, str(plan))
        if plot is not None:
            from planner.exporters.plots.explanation import plot_explanation

            written = plot_explanation(found, plot)
            typer.echo("\n".join(f"wrote {path}" for path in written), err=True)
    if json_output:
        print_json(as_data(found))
    else:
        typer.echo(as_text(explanation_blocks(found)), nl=False)
