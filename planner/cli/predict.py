"""`planner predict`: what given deployments would reach."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.common import JsonOption, check_out, print_json, progress, reported
from planner.schema.calibration import SHIPPED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planner.prediction import Prediction

_ROWS = "A CSV file, one deployment and its load per line (docs/reference/prediction-rows.md)."


def predict(
    rows: Annotated[Path, typer.Argument(help=_ROWS, show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Write the predictions to this CSV file.")] = None,
    calibration: Annotated[
        list[str], typer.Option(help="A shipped calibration, or a path; of several, the nearest to a row counts.")
    ] = list(SHIPPED),  # noqa: B006
    json_output: JsonOption = False,
) -> None:
    """Predict mean TTFT and TPOT of deployments under a closed loop of clients.

    Without --out the predictions are printed. A row that cannot be expressed is refused with a reason; the others are
    predicted.

    Exit codes: 0 every row was answered or refused, 2 bad input.
    """
    from planner import yaml_io
    from planner.catalog import load_calibration
    from planner.catalog.rows import read_rows
    from planner.posterior import Posterior
    from planner.prediction import predict_rows

    with reported():
        if out is not None:
            check_out(out, rows, "the file of rows")
        read = read_rows(rows)
        posterior = Posterior.of([load_calibration(name).value for name in calibration])
        with progress() as on_stage:
            predictions = predict_rows(read, posterior, on_stage)
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

    from planner.prediction import Prediction

    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(Prediction._fields)
    for prediction in predictions:
        writer.writerow("" if v is None else f"{v:.6g}" if isinstance(v, float) else v for v in prediction)
    return stream.getvalue()


def _summary(predictions: "Sequence[Prediction]") -> list[str]:
    """Say how many rows were answered, and why the others were not."""
    from collections import Counter

    refused = Counter(p.reason for p in predictions if p.status == "refused")
    answered = len(predictions) - refused.total()
    lines = [f"{answered} of {len(predictions)} rows predicted"]
    return [*lines, *(f"{count:>6}  refused: {reason}" for reason, count in refused.most_common())]
