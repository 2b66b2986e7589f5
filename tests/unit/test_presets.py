"""Presets by use: they load, say where every value comes from, and ask for what can be planned."""

import typing

import pytest

from planner import resources, units
from planner.catalog.presets import load_preset, preset_names
from planner.catalog.scenario import load_scenario
from planner.errors import InputError
from planner.schema.base import Sourced
from planner.schema.preset import LoadKind, Preset

PRESETS = {name: load_preset(name) for name in preset_names()}
KINDS = typing.get_args(LoadKind)
LOADS = {"rate": "2 /s", "max": "max", "concurrency": "{concurrency: 16}"}
USED = 0.9  # of its limit: what a request of the typical lengths may take in all, where a limit on that is published
SCENARIO = """
schema_version: 1
name: use
models: {{m: {{architecture: Llama-3.1-8B}}}}
inventory: {{h100: {{hardware: h100-sxm, nodes: 1}}}}
engine: {{name: vllm}}
workloads:
  w: {{model: m, requests: {load}, input_tokens: {isl}, output_tokens: {osl}, slo: {slo}}}
objective: {objective}
"""


def sourced(preset):
    """Return every sourced value of a preset."""
    groups = (preset, preset.slo)
    return [value for group in groups for _, value in group if isinstance(value, Sourced)]


def limits(preset):
    """Return the limits of a preset that are given, by name [s]."""
    return {name: limit.value for name, limit in preset.slo if limit}


def test_the_uses_that_scenarios_may_name_are_shipped():
    assert preset_names() == ("agents", "chat", "code-completion", "offline-batch", "rag")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_loads_under_its_file_s_name(name):
    loaded = PRESETS[name]
    assert isinstance(loaded.value, Preset)
    assert loaded.name == name == loaded.value.name
    assert len(loaded.sha256) == 64


@pytest.mark.parametrize("name", PRESETS)
def test_every_value_says_how_it_follows_and_every_source_is_used(name):
    preset = PRESETS[name].value
    values = sourced(preset)
    assert all(value.note for value in values)
    assert {key for value in values for key in value.source} == set(preset.sources)


@pytest.mark.parametrize("name", PRESETS)
def test_lengths_and_limits_are_plausible(name):
    """Orders of magnitude: milliseconds for seconds would show here."""
    preset = PRESETS[name].value
    assert 100 <= preset.input_tokens.value <= 100_000
    assert 2 <= preset.output_tokens.value <= preset.input_tokens.value
    assert all(0.005 <= limit <= 30 for limit in limits(preset).values())
    if preset.slo.ttft and preset.slo.tpot:
        assert preset.slo.tpot.value < preset.slo.ttft.value


def test_only_work_that_nobody_waits_for_has_no_limits():
    assert [name for name, loaded in PRESETS.items() if not limits(loaded.value)] == ["offline-batch"]


def test_a_completion_is_whole_before_its_user_types_on():
    """Within the 2 s that GuideLLM gives a whole completion, with room to spare."""
    preset = PRESETS["code-completion"].value
    asked = limits(preset)
    assert asked["ttft"] + (preset.output_tokens.value - 1) * asked["tpot"] < USED * 2.0


@pytest.mark.parametrize("name", PRESETS)
def test_goals_fit_the_kind_of_load(name):
    preset = PRESETS[name].value
    assert preset.goals("max")[0].sense == "maximize"
    assert {goal.sense for goal in preset.goals("concurrency")} == {"minimize"}
    assert preset.goals("rate")[0].sense == "minimize"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PRESETS)
def test_a_scenario_of_a_preset_s_values_is_accepted_without_prices(name, kind, tmp_path):
    preset = PRESETS[name].value
    slo = {key: units.format_quantity(value, units.SECONDS) for key, value in limits(preset).items()}
    goals = [goal.model_dump(mode="json", exclude_none=True) for goal in preset.goals(kind)]
    path = tmp_path / "use.yaml"
    lengths = {"isl": f"{preset.input_tokens.value:g} token", "osl": f"{preset.output_tokens.value:g} token"}
    path.write_text(SCENARIO.format(load=LOADS[kind], slo=slo, objective=goals, **lengths), encoding="utf-8")
    scenario = load_scenario(path).scenario
    assert scenario.objective == preset.goals(kind)
    assert {key: value for key, value in scenario.workloads["w"].slo if value} == pytest.approx(limits(preset))


def test_every_kind_of_load_has_an_example():
    assert set(LOADS) == set(KINDS)


@pytest.mark.parametrize(
    ("name", "message"),
    [("chatt", "unknown preset 'chatt'; did you mean 'chat'?"), ("xyz", "unknown preset 'xyz'; known: agents, chat, ")],
)
def test_an_unknown_preset_is_an_error_that_helps(name, message):
    with pytest.raises(InputError) as error:
        load_preset(name)
    assert str(error.value).startswith(message)


def test_a_preset_of_one_s_own_is_read_from_its_path_and_must_name_its_sources(tmp_path):
    text = (resources.shipped("presets") / "chat.yaml").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    assert load_preset("mine.yaml", tmp_path).value == PRESETS["chat"].value
    (tmp_path / "lost.yaml").write_text(text.replace("source: [mlperf]", "source: [mlperv]", 1), encoding="utf-8")
    with pytest.raises(InputError, match=r"slo\.ttft\.source: names a source that 'sources' does not list"):
        load_preset("lost.yaml", tmp_path)
