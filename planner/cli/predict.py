"""`planner predict`: what given deployments would reach."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.common import JsonOption, check_out, print_json, progress, reported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planner.prediction import Prediction

_ROWS = "A CSV file, one deployment and its load per line (docs/reference/prediction-rows.md)."


def predict(
    rows: Annotated[Path, typer.Argument(help=_ROWS, show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Write the predictions to this CSV file.")] = None,
    calibration: Annotated[str, typer.Option(help="A shipped set of efficiencies, or a path.")] = "textbook",
    json_output: JsonOption = False,
) -> None:
    """Predict mean TTFT and TPOT of deployments under a closed loop of clients.

    Without --out the predictions are printed. A row that cannot be expressed is refused with a reason; the others are
    predicted.
    """
    from planner import yaml_io
    from planner.catalog import load_efficiencies
    from planner.catalog.rows import read_rows
    from planner.prediction import predict_rows

    with reported():
        if out is not None:
            check_out(out, rows, "the file of rows")
        read = read_rows(rows)
        efficiencies = load_efficiencies(calibration).value
        with progress() as on_stage:
            predictions = predict_rows(read, efficiencies, on_stage)
        text = _csv(predictions)
        if out is not None:
            yaml_io.write_text(out, text)
    if json_output:
        print_json([prediction._asdict() for prediction in predictions])
    elif out is None:
        typer.echo(text, nl=False)
    else:
        for line in _summary(predictions):
            typer.echo(line)


def _csv(predictions: "Sequence[Prediction]") -> str:
    import csv
    import io

    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("id", "ttft_ms", "tpot_ms", "status", "reason"))
    for p in predictions:
        figures = ("" if value is None else f"{value:.6g}" for value in (p.ttft_ms, p.tpot_ms))
        writer.writerow((p.id, *figures, p.status, p.reason))
    return stream.getvalue()


def _summary(predictions: "Sequence[Prediction]") -> list[str]:
    """Say how many rows were answered, and why the others were not."""
    from collections import Counter

    refused = Counter(p.reason for p in predictions if p.status == "refused")
    answered = len(predictions) - refused.total()
    lines = [f"{answered} of {len(predictions)} rows predicted"]
    return [*lines, *(f"{count:>6}  refused: {reason}" for reason, count in refused.most_common())]
