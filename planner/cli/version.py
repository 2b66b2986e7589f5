"""`planner --version`."""

from typing import Annotated

import typer

from planner import __version__


def _print(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


def show_version(
    version: Annotated[
        bool, typer.Option("--version", callback=_print, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Decides, with a proof, how to deploy large language models on Ascend and GPU clusters."""
