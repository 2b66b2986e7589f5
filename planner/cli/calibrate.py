"""`planner calibrate`: what measurements say about efficiencies."""

from pathlib import Path
from typing import Annotated, Any

import typer

from planner.cli.common import JsonOption, check_out, print_json, print_table, progress, reported
from planner.errors import InputError

_MEASUREMENTS = "A CSV file: the columns of prediction rows, ttft_ms and tpot_ms (docs/how-to/calibrate.md)."
_PERCENT = ("tpot_median", "tpot_mean", "ttft_median", "ttft_mean")
_DOUBTFUL = {
    "strange": "rows far from their neighbours",
    "impossible": "rows left out, faster than data sheets allow",
}
_MOST_NAMED = 20


def calibrate(
    measurements: Annotated[Path | None, typer.Argument(help=_MEASUREMENTS, show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="Write the calibration to this YAML file.")] = None,
    textbook: Annotated[
        str, typer.Option(help="The efficiencies to start from: a shipped name, or a path.")
    ] = "operators",
    priors: Annotated[
        str, typer.Option(help="How far efficiencies may move from there: silicon, ascend, or a path.")
    ] = "silicon",
    microbench: Annotated[
        bool, typer.Option("--microbench", help="Measure operators of this device instead, through PyTorch.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="With --microbench: cuda, npu or cpu.")] = None,
    hardware: Annotated[str | None, typer.Option(help="With --microbench: the data sheet to compare with.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="With --microbench: time it may take.")] = 600.0,
    rows: Annotated[Path | None, typer.Option(help="With --microbench: fit the rows of this file instead.")] = None,
    json_output: JsonOption = False,
) -> None:
    """Fit efficiencies to measured serving runs, in pooled levels, and report errors, fitted and held out.

    The report has the errors of rows that were left out in turn, by what was left out with them; rows that look wrong;
    and the efficiencies. Takes minutes: everything is fitted anew for every part that is left out.
    """
    if microbench:
        from planner.cli.microbench import microbench as measure

        measure(device=device, hardware=hardware, seconds=seconds, rows=rows, out=out, json_output=json_output)
        return
    with reported():
        if measurements is None:
            raise InputError.single("MEASUREMENTS", "name a CSV file of measured rows, or ask for --microbench")
        report = _calibrate(measurements, out, textbook, priors)
    if json_output:
        print_json(report)
    else:
        _print(report, out)


def _calibrate(measurements: Path, out: Path | None, textbook: str, priors: str) -> dict[str, Any]:
    import hashlib

    from planner import yaml_io
    from planner.calibrate import calibrate as fitted_to
    from planner.calibrate import read_measurements
    from planner.catalog import load_efficiencies, load_priors
    from planner.schema.base import Source

    if out is not None:
        check_out(out, measurements, "the file of measurements")
    measured = read_measurements(measurements)
    efficiencies = load_efficiencies(textbook).value
    digest = hashlib.sha256(yaml_io.read_text(measurements).encode()).hexdigest()
    command = f"planner calibrate {measurements.name} --textbook {textbook} --priors {priors}"
    source = Source(title=measurements.name, accessed=f"sha256 {digest}, fitted by `{command}`")
    name = out.stem if out is not None else measurements.stem
    with progress() as on_stage:
        calibration, report = fitted_to(measured, efficiencies, load_priors(priors).value, name, source, on_stage)
    if out is not None:
        yaml_io.write_text(
            out, yaml_io.dump(calibration.model_dump(mode="json", exclude_none=True, exclude_defaults=True))
        )
    return report


def _print(report: dict[str, Any], out: Path | None) -> None:
    counts = report["rows"]
    typer.echo(f"{counts['fitted']} of {counts['measured']} rows fitted, {counts['refused']} refused")
    headers = ("errors in %", "rows", "TPOT median", "mean", "TTFT median", "mean")
    errors = {"fitted": report["fitted"], **{f"held out: {name}": e for name, e in report["held_out"].items()}}
    print_table(
        headers,
        [[name, str(e["rows"]), *(f"{e[k]:.1f}" if k in e else "-" for k in _PERCENT)] for name, e in errors.items()],
    )
    for kind, words in _DOUBTFUL.items():
        doubtful = report[kind]
        if doubtful:
            named = ", ".join(row["id"] for row in doubtful[:_MOST_NAMED])
            more = f" and {len(doubtful) - _MOST_NAMED} more" if len(doubtful) > _MOST_NAMED else ""
            typer.echo(f"{words}: {named}{more} (--json says how far)")
    if out is not None:
        typer.echo(f"wrote {out}")
