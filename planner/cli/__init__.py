"""The command line: one file per command, each a thin layer over the public interface."""

import typer

from planner.cli.alternatives import alternatives
from planner.cli.bench import bench
from planner.cli.calibrate import calibrate
from planner.cli.compare import compare
from planner.cli.cost import cost
from planner.cli.diff import diff
from planner.cli.explain import explain
from planner.cli.export import export
from planner.cli.fake_engine import fake_engine
from planner.cli.grid import grid
from planner.cli.hardware import hardware_app
from planner.cli.import_ import import_
from planner.cli.infeasible import infeasible
from planner.cli.init import init
from planner.cli.migrate import migrate
from planner.cli.models import models_app
from planner.cli.pareto import pareto
from planner.cli.predict import predict
from planner.cli.replan import replan
from planner.cli.rules import rules
from planner.cli.schema import schema
from planner.cli.sensitivity import sensitivity
from planner.cli.solve import solve
from planner.cli.tune import tune
from planner.cli.verify import verify
from planner.cli.version import show_version
from planner.cli.why_not import why_not

app = typer.Typer(
    name="planner",
    help="Decides, with a proof, how to deploy large language models on Ascend and GPU clusters.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.callback()(show_version)
_COMMANDS = (
    solve,
    infeasible,
    pareto,
    sensitivity,
    verify,
    explain,
    alternatives,
    export,
    compare,
    diff,
    predict,
    calibrate,
    cost,
    init,
    schema,
    grid,
    rules,
    tune,
    replan,
    migrate,
    bench,
    fake_engine,
)
for command in _COMMANDS:
    app.command()(command)
app.command("import")(import_)
app.command("why-not")(why_not)
app.add_typer(hardware_app, name="hardware")
app.add_typer(models_app, name="models")
