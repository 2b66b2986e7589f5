"""What engines refuse: for every restriction in their files, a configuration that breaks it and nothing else."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from planner import catalog
from planner.cli import app
from planner.columns import conditions
from planner.columns.deployable import Degrees, why_not
from planner.columns.engine_rules import ENGINE_RULES, engine_rules, holds, restrictions
from planner.columns.setting import lone_setting
from planner.schema.engine import Conditions, Restriction
from planner.schema.precision import FORMATS

ENGINES = {name: catalog.load_engine(name).value for name in catalog.engine_names()}
HOME = {"vllm": "h100-sxm", "sglang": "h100-sxm", "trtllm": "h100-sxm", "mindie": "ascend-910b2",
        "vllm-ascend": "ascend-910c"}  # fmt: skip

CASES = yaml.safe_load((Path(__file__).parent / "engine_rule_cases.yaml").read_text())
# Rules that another one makes redundant in every configuration, or that break with it by what they mean.
IMPLIED = {("trtllm", "block_is_a_power_of_two"): {"block_size_is_offered"}}
EVERY = [(engine, rule) for engine, cases in CASES.items() for rule in cases]


def setting_of(engine, model, changes, version=None):
    """A setting of an engine at home: longest request 4096 tokens, shape and role as the case wants them."""
    architecture = catalog.load_architecture(model).value
    fields = {"Positions": "max_position_embeddings", "Heads": "num_attention_heads", "Kv": "num_key_value_heads",
              "Vocab": "vocab_size", "Experts": "num_experts", "Own": "num_nextn_predict_layers"}  # fmt: skip
    architecture = architecture._replace(**{fields[k]: v for k, v in changes.items() if k in fields})
    setting = lone_setting(
        architecture,
        catalog.load_hardware(changes.get("Hardware", HOME[engine])).value,
        ENGINES[engine],
        version or ENGINES[engine].versions[0],
        catalog.load_efficiencies("textbook").value,
        isl=2048,
        osl=2048,
        acceptance=(0.5,) * 4 if "Own" in changes else (),
    )
    return setting._replace(role=changes.get("Role", "mixed"))


def values_of(setting, changes):
    """Arrays of one configuration: everything plain but what the case changes."""
    schedule = setting.engine.scheduling
    plain = {
        "tp": 1, "pp": 1, "ep": 1, "attention_dp": 1, "context_parallel": 1, "redundant_experts": 0,
        "max_num_batched_tokens": 8192, "max_num_seqs": 64, "speculative_tokens": 0, "weight_precision": "bf16",
        "kv_precision": "bf16", "block_size": setting.engine.block_size.value,
        "mixed_steps": schedule.prefill.value == "mixed", "chunked": schedule.chunked_prefill.value,
    }  # fmt: skip
    values = plain | {k: v for k, v in changes.items() if k in plain}
    for name in ("weight_precision", "kv_precision"):
        values[name] = tuple(FORMATS).index(values[name])
    values["devices"] = values["tp"] * values["pp"] * values["attention_dp"]
    return {name: np.array([float(value)]) for name, value in values.items()}


def broken(setting, values):
    """The rules that the configuration breaks, those on memory left out, by name."""
    applied = [rule for rule in engine_rules(setting) if rule.name != "longest_request_fits"]
    return {rule.name: rule for rule in applied if np.broadcast_to(rule.broken(setting, values), (1,))[0]}


@pytest.mark.parametrize("engine", ENGINES)
def test_every_restriction_has_a_case_here(engine):
    assert list(CASES[engine]) == [rule.name for rule in ENGINES[engine].restrictions]


@pytest.mark.parametrize(("engine", "name"), EVERY)
def test_a_configuration_that_breaks_exactly_one_rule(engine, name):
    model, changes, numbers = CASES[engine][name].values()
    setting = setting_of(engine, model, changes)
    values = values_of(setting, changes)
    found = broken(setting, values)
    assert set(found) == {name} | IMPLIED.get((engine, name), set())
    at = {key: float(value[0]) for key, value in values.items()}
    assert found[name].detail(setting, at) == numbers
    assert found[name].sources


@pytest.mark.parametrize(("engine", "name"), EVERY)
def test_without_what_a_case_changes_nothing_is_broken(engine, name):
    model = CASES[engine][name]["model"]
    setting = setting_of(engine, model, {})
    values = values_of(setting, {})
    assert broken(setting, values) == {}


@pytest.mark.parametrize(("engine", "name"), EVERY)
def test_what_reads_limits_is_not_structural(engine, name):
    """Structural rules are asked before limits are known."""
    model, changes, _ = CASES[engine][name].values()
    setting = setting_of(engine, model, changes)
    values = values_of(setting, changes)
    for limit in ("max_num_seqs", "max_num_batched_tokens", "speculative_tokens"):
        del values[limit]
    for rule in engine_rules(setting):
        if rule.structural:
            assert np.broadcast_to(rule.broken(setting, values), (1,)).dtype == bool


OFFERS = [
    ("mindie", {"weight_precision": "fp8"}, "weights_are_served"),
    ("vllm-ascend", {"kv_precision": "fp8"}, "kv_cache_is_served"),
    ("vllm-ascend", {"block_size": 64}, "block_size_is_offered"),
    ("vllm", {"mixed_steps": 0}, "policy_is_offered"),
    ("trtllm", {"tp": 8, "context_parallel": 2}, "context_parallel_is_offered"),
    ("vllm", {"attention_dp": 2}, "attention_dp_is_offered"),
]


@pytest.mark.parametrize(("engine", "changes", "name"), OFFERS)
def test_what_an_engine_does_not_offer_is_refused(engine, changes, name):
    setting = setting_of(engine, "Llama-3.1-8B", changes)
    assert set(broken(setting, values_of(setting, changes))) == {name}


def test_an_engine_that_lacks_something_refuses_it():
    whole = ENGINES["trtllm"]
    without = whole.model_copy(
        update={
            "disaggregation": None,
            "redundant_experts": whole.redundant_experts.model_copy(update={"value": False}),
            "attention_dp": whole.attention_dp.model_copy(update={"value": "none"}),
        }
    )
    changes = {"Role": "decode", "tp": 1, "attention_dp": 4, "ep": 4, "redundant_experts": 4}
    setting = setting_of("trtllm", "DeepSeek-V3", changes)
    assert broken(setting, values_of(setting, changes)) == {}
    lacking = setting._replace(engine=without)
    refused = {"role_is_offered", "experts_may_be_redundant", "attention_dp_is_offered"}
    assert set(broken(lacking, values_of(lacking, changes))) == refused


def test_missing_axes_mean_what_the_engine_does():
    """Values may leave out whatever is at its plain value."""
    for engine in ENGINES:
        setting = setting_of(engine, "Qwen3-32B", {})
        bf16 = np.array([float(tuple(FORMATS).index("bf16"))])
        few = {name: np.ones(1) for name in ("tp", "pp", "ep")}
        values = few | {"weight_precision": bf16, "kv_precision": bf16}
        values |= {"max_num_batched_tokens": np.array([8192.0]), "max_num_seqs": np.array([64.0])}
        assert broken(setting, values) == {}


def test_rules_are_read_on_open_meshes():
    setting = setting_of("vllm", "Llama-3.1-70B", {})
    values = values_of(setting, {})
    values["tp"] = np.array([8.0, 16.0, 32.0]).reshape(3, 1)
    values["context_parallel"] = np.array([1.0, 2.0, 4.0, 8.0]).reshape(1, 4)
    del values["devices"]
    legal = np.ones((3, 4), dtype=bool)
    for rule in engine_rules(setting):
        if rule.structural:
            legal &= ~np.broadcast_to(rule.broken(setting, values), (3, 4))
    # 8 KV heads: tp 16 keeps two copies, tp 32 four
    assert legal.tolist() == [[True, False, False, False], [True, True, False, False], [True, True, True, False]]


def test_a_rule_holds_from_its_first_version_to_before_its_last():
    facts = {"name": "r", "says": "s", "source": ("a",)}
    rule = Restriction(**facts, since="0.5.9", until="0.6")
    assert [holds(rule, v) for v in ("0.5.8", "0.5.9", "0.5.23", "0.6", "0.6.1")] == [False, True, True, False, False]
    assert holds(Restriction(**facts), "0.1")
    engine = ENGINES["vllm"]
    dated = engine.restrictions[0].model_copy(update={"until": "0.24"})
    changed = engine.model_copy(update={"restrictions": (dated, *engine.restrictions[1:])})
    names = [[rule.name for rule in restrictions(changed, version)] for version in ("0.23", "0.24")]
    assert set(names[0]) - set(names[1]) == {dated.name}


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_every_rule_says_where_it_was_read(engine):
    for rule in (*engine.rules, *engine.restrictions, *restrictions(engine, engine.versions[0])):
        assert rule.note
        assert rule.source
        assert set(rule.source) <= set(engine.sources)
    names = [*ENGINE_RULES, *(rule.name for rule in restrictions(engine, engine.versions[0]))]
    assert len(names) == len(set(names))


def test_a_condition_without_anything_always_holds():
    setting = setting_of("vllm", "Llama-3.1-8B", {})
    assert conditions.hold(Conditions(), setting, values_of(setting, {})).all()


def test_a_named_deployment_is_refused_with_the_rule_and_its_source():
    setting = setting_of("trtllm", "DeepSeek-V3", {})
    degrees = Degrees(tp=2, pp=1, attention_dp=4, ep=8, moe_tp=None, weight_precision="fp8", kv_precision="bf16")
    assert why_not(setting, degrees) == (
        "trtllm: with attention_dp, tp is 1: attention is data parallel over all devices or none "
        "(attention_dp 4, tp 2; dp_takes_the_whole_group, source trtllm)"
    )


def run(*arguments):
    return CliRunner().invoke(app, ["rules", *arguments])


@pytest.mark.parametrize("engine", ENGINES)
def test_the_command_lists_rules_scheduling_and_fusions_with_sources(engine):
    printed = run(engine)
    assert printed.exit_code == 0
    for rule in (*ENGINES[engine].rules, *ENGINES[engine].restrictions):
        assert getattr(rule, "name", None) or rule.rule in printed.output
    for word in ("what it says", "applies to", "default_token_budget", "tp_ratio", *ENGINES[engine].fusions):
        assert word in printed.output
    for source in ENGINES[engine].sources.values():
        assert source.title in printed.output


def test_the_command_prints_json():
    printed = json.loads(run("mindie", "--json", "--version", "3.0").output)
    assert printed["version"] == "3.0"
    (rule,) = (rule for rule in printed["rules"] if rule["rule"] == "splitfuse_on_one_node")
    assert rule["source"] == ["mindie-2.2"]
    assert set(printed["sources"]) == set(ENGINES["mindie"].sources)


def test_an_unknown_engine_is_an_error_with_a_hint():
    printed = run("vlm")
    assert printed.exit_code == 2
    assert re.search(r"unknown engine 'vlm'; did you mean 'vllm'\?", printed.stderr)
