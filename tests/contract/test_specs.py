"""What is shipped: it loads, every value has its sources, and every scenario is solved and verified."""

import itertools
import json
import typing
from pathlib import Path

import pytest
from pydantic import BaseModel

from planner import catalog, resources
from planner.columns.grid import DERIVED, GRID, SEQUENCE_LIMITS, searched_values, sequence_limits
from planner.columns.setting import settings
from planner.exporters.json_file import plan_text, read_plan
from planner.pipeline import verify_plan
from planner.schema.base import Sourced
from planner.schema.calibration import Calibration
from planner.schema.engine import Engine
from planner.schema.precision import FORMATS, KvPrecision, Precision
from planner.schema.scenario import Search, ServedModel

ROOT = Path(__file__).parents[2]
SCENARIOS = sorted((ROOT / "scenarios").glob("*.yaml"))
INFEASIBLE = {"infeasible"}
LOADERS = {
    "hardware": (catalog.hardware_names, catalog.load_hardware),
    "engine": (catalog.engine_names, catalog.load_engine),
    "calibration": (catalog.efficiency_names, catalog.load_calibration),
}
SPECIFICATIONS = [(kind, name) for kind, (names, _) in LOADERS.items() for name in names()]
MOST_LINES = 400


def sourced(value):
    """Yield every sourced value inside a specification."""
    if isinstance(value, Sourced):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from sourced(getattr(value, name))
    elif isinstance(value, dict):
        for item in value.values():
            yield from sourced(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from sourced(item)


def test_something_of_every_kind_is_shipped():
    assert {kind for kind, _ in SPECIFICATIONS} == set(LOADERS)
    assert catalog.architecture_names()
    assert {path.stem for path in SCENARIOS} > INFEASIBLE


@pytest.mark.parametrize(("kind", "name"), SPECIFICATIONS)
def test_every_specification_loads_under_its_file_s_name(kind, name):
    loaded = LOADERS[kind][1](name)
    assert loaded.name == name == loaded.value.name
    assert len(loaded.sha256) == 64


@pytest.mark.parametrize(("kind", "name"), SPECIFICATIONS)
def test_every_value_names_sources_that_exist_and_every_source_is_used(kind, name):
    specification = LOADERS[kind][1](name).value
    if isinstance(specification, Calibration):
        specification = specification.textbook
    values = list(sourced(specification))
    assert values
    named = {source for value in values for source in value.source}
    if isinstance(specification, Engine):
        named |= {source for rule in (*specification.rules, *specification.restrictions) for source in rule.source}
    assert named == set(specification.sources)


@pytest.mark.parametrize("name", catalog.hardware_names())
def test_hardware_is_plausible(name):
    """Orders of magnitude: a slip of 1000 or of 8 (bits for bytes) in a file would show here."""
    hardware = catalog.load_hardware(name).value
    assert "bf16" in hardware.peak_flops
    assert all(50e12 <= rate.value <= 50e15 for rate in hardware.peak_flops.values())
    assert 1e12 <= hardware.engines.vector_flops.value <= hardware.peak_flops["bf16"].value
    assert 16e9 <= hardware.memory.capacity.value <= 1e12
    assert 0.2e12 <= hardware.memory.bandwidth.value <= 30e12
    assert all(10e9 <= level.bandwidth.value <= 5e12 for level in hardware.scale_up)
    assert 1e9 <= hardware.scale_out.bandwidth.value <= hardware.scale_up[-1].bandwidth.value
    assert hardware.host is None or 10e9 <= hardware.host.link.value <= 1e12
    assert hardware.power is None or 50 <= hardware.power.value <= 5000


@pytest.mark.parametrize("name", catalog.engine_names())
def test_engines_run_on_shipped_vendors_and_know_their_precisions(name):
    engine = catalog.load_engine(name).value
    vendors = {catalog.load_hardware(device).value.vendor for device in catalog.hardware_names()}
    assert vendors & set(engine.vendors)
    sizes = engine.graph_capture_sizes.value
    assert list(sizes) == sorted(set(sizes))
    assert set(engine.weight_precisions.value) <= set(FORMATS)


def test_precisions_and_formats_are_the_same():
    assert set(typing.get_args(Precision)) == set(FORMATS)
    assert set(typing.get_args(KvPrecision)) <= set(FORMATS)


@pytest.mark.parametrize("name", catalog.architecture_names())
def test_every_architecture_loads_with_where_it_comes_from(name):
    loaded = catalog.load_architecture(name)
    about = catalog.load_about(name)
    assert loaded.value.name == name
    place, _, owner = about.source.removeprefix("https://").partition("/")
    assert place in ("huggingface.co", "gitcode.com")
    assert owner.split("/")[0] == about.huggingface_id.split("/")[0]
    assert about.published_parameters.total > 0
    assert catalog.load_architecture(about.huggingface_id).value == loaded.value
    raw = json.loads((resources.shipped("architectures") / name / "config.json").read_text())
    layers = (raw.get("text_config", {}) | raw)["num_hidden_layers"]
    assert loaded.value.num_hidden_layers == layers
    for kinds in (loaded.value.attention_layers, loaded.value.ffn_layers):
        assert sum(kinds.values()) == layers
        assert all(count > 0 for count in kinds.values())
    heads = loaded.value.num_attention_heads * max(loaded.value.head_dim, loaded.value.v_head_dim)
    assert heads >= loaded.value.hidden_size / 2


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_every_scenario_is_solved_as_expected_and_verifies(path, tmp_path, solved):
    assert catalog.load_scenario(path).scenario.name == path.stem
    report = solved(path)
    expected = "infeasible" if path.stem in INFEASIBLE else "optimal"
    assert report.plan.termination.reason == expected
    assert bool(report.plan.deployments) == (expected == "optimal")
    assert bool(report.plan.shortfall) == (expected == "infeasible")
    file = tmp_path / "plan.json"
    file.write_text(plan_text(report.plan))
    assert verify_plan(read_plan(file), path.parent).reasons == ()


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_every_scenario_begins_with_its_question(path):
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert "?" in first


@pytest.mark.parametrize("variable", GRID, ids=lambda variable: variable.name)
def test_grid_fields_exist_in_the_schema(variable):
    section, *rest = variable.scenario_field.split(".")
    if section == "search":
        assert rest[0] in Search.model_fields
    else:
        assert (section, rest[0]) == ("models", "NAME")
        assert rest[1] in ServedModel.model_fields
    assert variable.meaning
    assert variable.reason


def test_every_search_field_is_a_grid_variable():
    """Or restricts a derived one, which says so."""
    fields = {variable.scenario_field for variable in GRID}
    derived = dict(DERIVED)
    restricts = {f"search.{name}" for name in Search.model_fields} - fields
    assert restricts == {"search.max_num_seqs"}
    assert "search.max_num_seqs" in derived["max_num_seqs"]
    names = [variable.name for variable in GRID]
    assert len(names) == len(set(names))
    assert len(derived) == len(DERIVED)
    # Searched for the other roles, and of decode replicas it follows from the rest.
    assert set(names) & set(derived) == {"max_num_batched_tokens"}
    assert "of a replica that only decodes" in derived["max_num_batched_tokens"]


@pytest.mark.parametrize("variable", [v for v in GRID if v.values], ids=lambda variable: variable.name)
def test_grid_values_are_sorted_and_accepted_by_the_schema(variable):
    ordered = ["mixed", "prefill", "decode"] if variable.name == "role" else sorted(set(variable.values))
    assert list(variable.values) == ordered
    field = variable.scenario_field.removeprefix("search.")
    assert getattr(Search(**{field: list(variable.values)}), field) == variable.values


def test_a_restriction_replaces_the_default_values():
    case = catalog.load_scenario(ROOT / "scenarios" / "quickstart.yaml")
    roles = []
    for setting in settings(case):
        before = searched_values(setting)
        assert list(before) == [variable.name for variable in GRID]
        assert all(before.values())
        after = searched_values(setting._replace(search=Search(tp=(2, 4))))
        assert after == before | {"tp": (2, 4)}
        roles += before["role"]
    assert tuple(roles) == next(variable.values for variable in GRID if variable.name == "role")


def test_limits_on_requests_are_sorted_accepted_and_can_be_restricted():
    assert list(SEQUENCE_LIMITS) == sorted(set(SEQUENCE_LIMITS))
    assert sequence_limits(Search()) == SEQUENCE_LIMITS == Search(max_num_seqs=list(SEQUENCE_LIMITS)).max_num_seqs
    assert sequence_limits(Search(max_num_seqs=[64, 16])) == (16, 64)


def test_loads_are_at_most_six_percent_apart_from_16_on():
    (running,) = [variable.values for variable in GRID if variable.name == "mean_running"]
    assert all(right <= left * 1.0626 for left, right in itertools.pairwise(running) if left >= 16)
    assert all(right == left + 1 for left, right in itertools.pairwise(running) if left < 16)


@pytest.mark.parametrize("package", ["planner", "formulations"])
def test_no_module_grows_past_400_lines(package):
    sizes = {str(path): len(path.read_text().splitlines()) for path in (ROOT / package).rglob("*.py")}
    assert len(sizes) > 1
    assert {path: lines for path, lines in sizes.items() if lines > MOST_LINES} == {}
