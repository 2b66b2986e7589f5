"""The capacity workbook of every scenario: its cached values, another program's recalculation and the plan agree."""

import io
import json
import shutil
import subprocess
from pathlib import Path

import formulas
import numpy as np
import openpyxl
import pyarrow.parquet
import pytest

from planner import handover
from planner.capacity import capacity_of
from planner.catalog import load_scenario
from planner.exporters import FORMATS
from planner.launch.facts import Facts
from planner.plan import Deployment, as_data, totals
from planner.workbook import sheets
from planner.workbook.assumptions import _SETTINGS
from planner.workbook.formula import UNKNOWN, Formula

SCENARIOS = Path(__file__).parents[2] / "scenarios"
EVERY = sorted(path.stem for path in SCENARIOS.glob("*.yaml"))
RECALCULATED = ("quickstart", "column_table", "ascend_and_gpu")
CLOSE = 1e-9


@pytest.fixture(scope="module")
def known(solved):
    """Return a function that gives the plan of a scenario and what exporters know of it."""

    def made(name):
        path = SCENARIOS / f"{name}.yaml"
        case = load_scenario(path)
        return solved(path).plan, Facts({}, {}, {}, {}, capacity_of(case))

    return made


@pytest.fixture(scope="module")
def written(known):
    """Return a function that gives the content of a scenario's workbook."""

    def made(name):
        (content,) = FORMATS["xlsx"].load().files(*known(name)).values()
        return content

    return made


class Book:
    """Cells of a workbook by sheet, table and key of their column, as its sheets place them."""

    def __init__(self, plan, facts, value):
        self.tables = {t.key: t for sheet in sheets(plan, facts.capacity) for t in sheet.tables}
        self._value = value

    def column(self, table, key):
        t = self.tables[table]
        place = [column.key for column in t.columns].index(key)
        return [self._value(t.sheet, t.first + row, place) for row in range(len(t.cells))]

    def row(self, table, key, name):
        """The place of the cell in the row whose first cell is a name: sheet, row, column."""
        t = self.tables[table]
        place = [column.key for column in t.columns].index(key)
        (row,) = (i for i, cells in enumerate(t.cells) if cells[0] == name)
        return t.sheet, t.first + row, place


def cached(plan, facts, content):
    book = openpyxl.load_workbook(io.BytesIO(content), data_only=True)
    return Book(plan, facts, lambda sheet, row, column: book[sheet].cell(row + 1, column + 1).value)


@pytest.mark.parametrize("name", EVERY)
def test_cached_values_are_the_plan_s(name, known, written):
    plan, facts = known(name)
    book = cached(plan, facts, written(name))
    if not plan.deployments:
        assert book.column("summary", "value")[0] == plan.termination.reason
        assert set(plan.shortfall) <= set(book.column("summary", "value"))
        return

    def same(found, wanted):
        np.testing.assert_allclose(found, wanted, rtol=CLOSE)

    same(book.column("deployments", "requests_per_s"), [d.requests_per_s for d in plan.deployments])
    same(book.column("deployments", "devices"), [d.devices for d in plan.deployments])
    ours = [d for d in plan.deployments if isinstance(d, Deployment)]
    if ours:
        for metric, role in (("ttft_ms", "decode"), ("tpot_ms", "prefill")):  # those of a pair stand once
            once = [None if d.role == role else getattr(d.predicted, metric) for d in ours]
            found = book.column("deployments", metric)
            assert [value is None for value in found] == [value is None for value in once]
            same([value for value in found if value is not None], [value for value in once if value is not None])
        same(book.column("memory", "capacity_gb"), [d.memory_bytes.capacity / 1e9 for d in ours])
        assert book.column("intervals", "confidence") == [d.predicted.confidence for d in ours]
    if plan.routes:
        same(book.column("routes", "requests_per_s"), [r.requests_per_s for r in plan.routes])
    reached = [plan.by_workload[workload] for workload in book.column("workloads", "workload")]
    same(book.column("workloads", "capacity_requests_per_s"), [p.requests_per_s for p in reached])
    if plan.predicted.output_tokens_per_s is not None:
        same(book.column("workloads", "output_tokens_per_s"), [p.output_tokens_per_s for p in reached])
        same(book.column("workloads", "ttft_ms"), [p.ttft_ms for p in reached])
    idle = dict(zip(book.column("pools", "inventory"), book.column("pools", "devices_idle"), strict=True))
    assert idle == plan.totals.idle_devices
    total = dict(zip(book.column("totals", "figure"), book.column("totals", "value"), strict=True))
    for figure, wanted in (("cost_usd_per_h", plan.totals.cost_usd_per_h), ("rated_power_w", plan.totals.power_w)):
        if wanted is None:
            assert total[figure] == UNKNOWN
        else:
            same(total[figure], wanted)
    assert dict(zip(book.column("summary", "figure"), book.column("summary", "value"), strict=True))["devices"] == (
        plan.totals.devices
    )


@pytest.mark.parametrize("name", EVERY)
def test_the_plan_is_enough_for_what_was_asked(name, known, written):
    """With no more load than was asked for, no deployment needs more replicas than the plan gives it."""
    plan, facts = known(name)
    if not plan.deployments:
        pytest.skip("nothing is deployed")
    book = cached(plan, facts, written(name))
    assert min(book.column("parts", "replicas_spare")) >= 0
    assert max(book.column("workloads", "utilisation")) <= 1 + CLOSE
    first = [cells[0] for cells in (book.column("growth", key) for key in growth_keys(book, "devices_"))]
    assert sum(first) <= plan.totals.devices


def growth_keys(book, start):
    return [column.key for column in book.tables["growth"].columns if column.key.startswith(start)]


@pytest.mark.parametrize("name", EVERY)
def test_no_number_stands_where_a_formula_belongs(name, known, written):
    """Every number in the file is an input: of the plan, of a specification, or for the reader to change."""
    plan, facts = known(name)
    book = openpyxl.load_workbook(io.BytesIO(written(name)))
    for sheet in sheets(plan, facts.capacity):
        assert book[sheet.name].freeze_panes
        assert book[sheet.name].print_area
        for table in sheet.tables:
            for row, cells in enumerate(table.cells):
                for place, cell in enumerate(cells):
                    there = book[sheet.name].cell(table.first + row + 1, place + 1).value
                    assert (isinstance(there, str) and there.startswith("=")) == isinstance(cell, Formula) or (
                        there == cell
                    )
    if plan.deployments:
        by_key = {t.key: t for sheet in sheets(plan, facts.capacity) for t in sheet.tables}
        for table, given in (("parts", 3), ("cost", 2), ("pools", 1), ("growth", 1), ("workloads", 1)):
            for cells in by_key[table].cells:
                assert all(
                    isinstance(cell, Formula)
                    for cell, column in zip(cells[given:], by_key[table].columns[given:], strict=True)
                    if cell is not None and column.key not in {"ttft_ms", "tpot_ms"}
                )


def by_formulas(path):
    """Calculate a workbook in Python; return a function of sheet, row and column."""
    found = {}
    for key, ranges in formulas.ExcelModel().loads(str(path)).finish().calculate().items():
        if isinstance(ranges, formulas.ranges.Ranges) and ranges.value.size == 1:
            found[str(key).upper()] = ranges.value[0, 0]
    return lambda sheet, row, column: found.get(
        f"'[{path.name.upper()}]{sheet.upper()}'!{openpyxl.utils.get_column_letter(column + 1)}{row + 1}"
    )


def by_libreoffice(path):
    """Calculate a workbook in LibreOffice; return a function of sheet, row and column."""
    folder = path.parent / "calculated"
    command = ["soffice", f"-env:UserInstallation={(path.parent / 'profile').as_uri()}", "--headless"]
    command += ["--convert-to", "xlsx", "--outdir", str(folder), str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=180)
    book = openpyxl.load_workbook(folder / path.name, data_only=True)

    def value(sheet, row, column):
        found = book[sheet].cell(row + 1, column + 1).value
        return "" if found is None else found

    return value


PROGRAMS = {
    "formulas": by_formulas,
    "libreoffice": pytest.param(
        by_libreoffice, marks=pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not here")
    ),
}


class Recalculated:
    """A workbook as another program calculates it from its formulas alone."""

    def __init__(self, path, calculate=by_formulas):
        self._path, self._calculate = path, calculate

    def value(self, changes=()):
        """Return a function of sheet, row and column, after changes by such places."""
        book = openpyxl.load_workbook(self._path)
        for (sheet, row, column), changed in dict(changes).items():
            book[sheet].cell(row + 1, column + 1).value = changed
        path = self._path.with_name("changed.xlsx")
        book.save(path)  # without cached values
        return self._calculate(path)


@pytest.fixture(scope="module", params=PROGRAMS.values(), ids=PROGRAMS)
def program(request):
    return request.param


@pytest.fixture(scope="module", params=RECALCULATED)
def recalculated(request, program, known, written, tmp_path_factory):
    path = tmp_path_factory.mktemp("book") / "plan.xlsx"
    path.write_bytes(written(request.param))
    return *known(request.param), Recalculated(path, program)


def test_another_program_calculates_the_cached_values(recalculated):
    plan, facts, model = recalculated
    value, compared = model.value(), 0
    for sheet in sheets(plan, facts.capacity):
        for table in sheet.tables:
            last = tuple(table.sums.get(column.key) for column in table.columns)
            for row, cells in enumerate((*table.cells, last)):
                for place, cell in enumerate(cells):
                    if isinstance(cell, Formula):
                        found = value(sheet.name, table.first + row, place)
                        if isinstance(cell.value, str):
                            assert str(found) == cell.value
                        else:
                            assert float(found) == pytest.approx(cell.value, rel=CLOSE, abs=CLOSE), cell.text
                        compared += 1
    assert compared > 200


def test_a_changed_price_changes_the_total_as_pricing_again_does(recalculated):
    plan, facts, model = recalculated
    prices = {name: pool.price_usd_per_h for name, pool in facts.capacity.pools.items()}
    powers = {name: pool.power_w for name, pool in facts.capacity.pools.items()}
    devices = {name: pool.devices for name, pool in facts.capacity.pools.items()}
    before = Book(plan, facts, None)
    changed = {name: 7.25 + number for number, name in enumerate(prices)}
    value = model.value({before.row("prices", "price_usd_per_h", name): price for name, price in changed.items()})
    wanted = totals(plan.deployments, changed, powers, devices).cost_usd_per_h
    assert wanted != plan.totals.cost_usd_per_h
    hourly = value(*before.row("totals", "value", "cost_usd_per_h"))
    assert float(hourly) == pytest.approx(wanted, rel=CLOSE)
    monthly = value(*before.row("totals", "value", "cost_usd_per_month"))
    assert float(monthly) == pytest.approx(wanted * 730, rel=CLOSE)
    assert float(value(*below(before, "cost", "cost_usd_per_h"))) == pytest.approx(wanted, rel=CLOSE)
    first = next(d.inventory for d in plan.deployments)
    blank = model.value({before.row("prices", "price_usd_per_h", first): None})
    assert blank(*below(before, "cost", "cost_usd_per_h")) == UNKNOWN, "no sum of what is known alone"


def below(book, table, key):
    """The place of a column's total: sheet, row, column."""
    t = book.tables[table]
    return t.sheet, t.first + len(t.cells), [column.key for column in t.columns].index(key)


def test_growth_the_target_loads_and_rates_move_what_is_needed(known, written, tmp_path):
    plan, facts = known("column_table")
    path = tmp_path / "plan.xlsx"
    path.write_bytes(written("column_table"))
    book, model = cached(plan, facts, path.read_bytes()), Recalculated(path)
    before = sum(book.column("parts", "devices_needed"))
    growth = book.row("settings", "value", "monthly_growth")

    def changed(changes):
        return Book(plan, facts, model.value(changes))

    def needed(changed):
        return sum(float(devices) for devices in changed.column("parts", "devices_needed"))

    tighter = changed({book.row("settings", "value", "utilisation_target"): 0.5, growth: 0.0})
    assert needed(tighter) > before
    for key in growth_keys(book, "devices_"):
        assert len({float(devices) for devices in tighter.column("growth", key)}) == 1

    first = plan.deployments[0]
    slower = changed(
        {book.row("deployments", "rate_of_replica", first.name): first.requests_per_s / first.replicas / 4}
    )
    assert needed(slower) > before
    assert float(slower.column("parts", "carried_requests_per_s")[0]) < first.requests_per_s

    more = changed({book.row("loads", "load", first.workload): 60.0, growth: 0.2})
    assert needed(more) > before
    for place, pool in enumerate(book.column("runs_out", "inventory")):
        devices = [float(n) for n in more.column("growth", f"devices_{pool}")]
        out = next(month for month, n in enumerate(devices) if n > facts.capacity.pools[pool].devices)
        assert float(more.column("runs_out", "runs_out_month")[place]) == out
        lead = next(s.value for s in _SETTINGS if s.name == "lead_time_months")
        assert float(more.column("runs_out", "order_by_month")[place]) == max(0, out - lead)
        assert float(more.column("runs_out", "late_months")[place]) == max(0, lead - out)
        ordered = sum(float(nodes) for nodes in more.column("orders", f"nodes_to_order_{pool}"))
        assert ordered == float(more.column("runs_out", "nodes_missing_last")[place]) > 0


def test_tables_are_the_same_values(known):
    plan, facts = known("quickstart")
    text = FORMATS["csv"].load().files(plan, facts)
    binary = FORMATS["parquet"].load().files(plan, facts)
    assert {name.removesuffix(".csv") for name in text} - {"columns"} == {
        name.removesuffix(".parquet") for name in binary
    }
    read = pyarrow.parquet.read_table(io.BytesIO(binary["deployments.parquet"]))
    assert read.schema.field("requests_per_s").metadata[b"unit"] == b"request/s"
    (row,) = read.to_pylist()
    assert row["requests_per_s"] == pytest.approx(plan.deployments[0].requests_per_s, rel=CLOSE)
    head, line = text["deployments.csv"].splitlines()
    said = dict(zip(head.split(","), line.split(","), strict=True))
    assert float(said["requests_per_s"]) == row["requests_per_s"]
    assert said["workload"] == row["workload"] == "chat"


def test_no_text_ends_where_its_column_does(known, written):
    """What is longer than its column goes on in the next line, and its row has room for that."""
    plan, facts = known("h800_h20")
    book, compared = openpyxl.load_workbook(io.BytesIO(written("h800_h20"))), 0
    for sheet in sheets(plan, facts.capacity):
        page = book[sheet.name]
        widths = {n: d.width for d in page.column_dimensions.values() for n in range(d.min, d.max + 1)}
        for table in sheet.tables:
            for row, cells in enumerate(table.cells, start=table.first + 1):
                for place, text in enumerate(cells, start=1):
                    cell = page.cell(row, place)
                    if isinstance(text, str) and len(text) > widths[place]:
                        assert cell.alignment.wrap_text, text
                        assert page.row_dimensions[row].height > 13.5 * 2, text
                        compared += 1
    assert compared > 5


def test_studies_are_shown(solved):
    path = SCENARIOS / "quickstart.yaml"
    settings = ("search.tp=[2]", "search.pp=[1]", "search.roles=[mixed]")
    plan = solved(path, settings).plan
    (content,) = handover.export(plan, "xlsx", SCENARIOS, alternatives=2).values()
    book = openpyxl.load_workbook(io.BytesIO(content), data_only=True)
    sheet = book["Alternatives"]
    (share,) = [
        dv for dv in book["Assumptions"].data_validations.dataValidation if dv.operator == "between" or not dv.operator
    ]
    assert (share.formula1, share.formula2) == ("0.01", "1"), "nothing may be planned for a utilisation of 0"
    ranks = [row[0] for row in sheet.iter_rows(min_row=6, values_only=True)]
    assert ranks[: len(ranks)] == list(range(1, len(ranks) + 1))
    hangs = {row[2] for row in book["Sensitivity"].iter_rows(values_only=True)}
    assert {"hbm_bandwidth", "ffn_flops"} <= hangs


def test_requests_in_flight_become_a_rate_by_little_s_law(solved):
    path = SCENARIOS / "quickstart.yaml"
    settings = ("search.tp=[2]", "search.pp=[1]", "search.roles=[mixed]", "workloads.chat.requests={concurrency: 64}")
    settings += ("objective={minimize: devices}",)
    plan = solved(path, settings).plan
    facts = Facts({}, {}, {}, {}, capacity_of(load_scenario(path, settings)))
    (content,) = FORMATS["xlsx"].load().files(plan, facts).values()
    book = cached(plan, facts, content)
    share = 64 / sum(d.requests_in_flight for d in plan.deployments)
    assert 0 < share <= 1
    assert book.column("loads", "load") == [64]
    assert book.column("loads", "demand_requests_per_s")[0] == pytest.approx(share * plan.predicted.requests_per_s)
    assert book.column("workloads", "utilisation")[0] == pytest.approx(share)
    assert min(book.column("parts", "replicas_spare")) >= 0


def test_the_same_plan_gives_the_same_bytes(known):
    plan, facts = known("quickstart")
    for name in ("xlsx", "csv", "parquet"):
        made = FORMATS[name].load()
        assert made.files(plan, facts) == made.files(plan, facts)


def test_names_stay_names(known):
    """Names of users are texts in a sheet, and good names for cells where they name some."""
    plan, facts = known("quickstart")
    odd = "=1+1 'é\" /x"
    data = json.loads(json.dumps(as_data(plan.scenario.resolved)).replace('"h100"', '"x"'))
    first = plan.deployments[0]._replace(name=odd, inventory=odd)
    changed = plan._replace(
        deployments=(first,),
        scenario=plan.scenario._replace(name=odd, resolved=data),
        totals=plan.totals._replace(idle_devices={odd: 0}),
    )
    pools = {odd: facts.capacity.pools["h100"], "é": facts.capacity.pools["h100"]}
    capacity = facts.capacity._replace(pools=pools)
    (content,) = FORMATS["xlsx"].load().files(changed, facts._replace(capacity=capacity)).values()
    book = openpyxl.load_workbook(io.BytesIO(content))
    assert book["Deployments"].cell(6, 1).value == odd
    assert book["Deployments"].cell(6, 1).data_type == "s" or book["Deployments"].cell(6, 1).quotePrefix
    assert all(name.replace("_", "").isalnum() and name.isascii() for name in book.defined_names)
    assert len({name.lower() for name in book.defined_names}) == len(book.defined_names)


@pytest.mark.parametrize("name", EVERY)
def test_charts_say_what_they_show_and_show_it(name, known, written):
    """Titles tell charts apart, axes have units, and series are columns of that unit beside their labels."""
    plan, facts = known(name)
    made = sheets(plan, facts.capacity)
    charts = [chart for sheet in made for chart in sheet.charts]
    assert bool(charts) == bool(plan.deployments)
    assert len({chart.title for chart in charts}) == len(charts)
    columns = {t.range(c.key).text: (c, t) for sheet in made for t in sheet.tables for c in t.columns if t.items}
    for chart in charts:
        assert len({series.name for series in chart.series}) == len(chart.series)
        for series in chart.series:
            column, table = columns[series.y.text]
            _, labels = columns[series.x.text]
            assert table is labels
            assert column.unit == chart.y_title
    drawn = openpyxl.load_workbook(io.BytesIO(written(name)))
    places = [
        (c.anchor._from.row, c.anchor.to.row, c.anchor._from.col, c.anchor.to.col)
        for sheet in drawn
        for c in sheet._charts
    ]
    assert len(places) == len(charts)
    for i, one in enumerate(places):
        for other in places[:i]:
            assert one[0] >= other[1] or other[0] >= one[1] or one[2] >= other[3] or other[2] >= one[3]
