"""The Markdown page of a plan: every figure is the plan's, and nothing a user names leaves its cell."""

from pathlib import Path

import pytest

from planner.catalog import find_scenario
from planner.exporters import FORMATS
from planner.launch.facts import Facts
from planner.plan import Deployment
from planner.text import figure

NOTHING = Facts({}, {}, {}, {})
SCENARIOS = ("quickstart", "ascend_910b", "what_runs_today", "column_table", "infeasible")


def page(plan):
    (text,) = FORMATS["markdown"].load().files(plan, NOTHING).values()
    return text


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_table_has_rows_of_one_width(name, solved):
    widths = []
    for line in page(solved(find_scenario(Path(name))).plan).splitlines():
        cells = line.replace("\\|", "").count("|")
        if cells and widths and widths[-1]:
            assert cells == widths[-1], line
        widths.append(cells)
    assert any(widths)


@pytest.mark.parametrize("name", SCENARIOS)
def test_figures_are_the_plan_s(name, solved):
    plan = solved(find_scenario(Path(name))).plan
    text = page(plan)
    assert plan.termination.detail in text
    for d in plan.deployments:
        row = next(line for line in text.splitlines() if line.startswith(f"| {d.name} |"))
        assert figure(d.requests_per_s) in row
        if isinstance(d, Deployment):
            cells = [cell.strip() for cell in row.split("|")]
            for column, metric, role in ((7, "ttft_ms", "decode"), (8, "tpot_ms", "prefill")):  # of a pair once
                said = "" if d.role == role else f"{figure(getattr(d.predicted, metric))} ms"
                assert cells[column].startswith(said)
                assert bool(cells[column]) == bool(said)
    for line in plan.shortfall:
        assert line in text
    for c in plan.baseline:
        if c.gain is not None:
            assert f"{c.gain:+.1%}" in text


def test_names_stay_text(solved):
    plan = solved(find_scenario(Path("quickstart"))).plan
    first = plan.deployments[0]._replace(name="a|b`<img>\nc")
    assert "a\\|b\\`\\<img\\> c" in page(plan._replace(deployments=(first,)))


def test_intervals_are_shown_where_the_plan_has_them(solved):
    plan = solved(find_scenario(Path("quickstart"))).plan
    d = plan.deployments[0]

    class WithIntervals(type(d.predicted)):
        ttft_ms_p10, ttft_ms_p90, tpot_ms_p10, tpot_ms_p90 = 800.0, 1200.0, 30.0, 45.0

    known = WithIntervals(**{name: getattr(d.predicted, name) for name in type(d.predicted)._fields})
    assert "(800 to 1200)" in page(plan._replace(deployments=(d._replace(predicted=known),)))
