"""Every rule with a configuration that breaks it, the numbers of the refusal, and the rules' sources."""

import json
import re
import typing
from pathlib import Path

import numpy as np
import pytest

from planner import resources
from planner.catalog import engine_names, load_engine, load_scenario
from planner.catalog.case import node_sizes
from planner.columns.engine_rules import ENGINE_RULES
from planner.columns.enumerate import grid_table
from planner.columns.evaluate import figures
from planner.columns.grid import encode, searched_values, sequence_limits
from planner.columns.legality import DEVICE_RULES, LOAD_RULES, MEMORY_RULE, rules
from planner.columns.mesh import Context, values_of
from planner.columns.pricing import price
from planner.columns.setting import settings
from planner.schema.engine import RuleName
from planner.schema.fleet import InventoryItem
from planner.table import AXES, Configuration

SCENARIOS = Path(__file__).parents[2] / "scenarios"
LLAMA = {"architecture": "Llama-3.1-8B"}
MOE = {"architecture": "Qwen3-30B-A3B"}
SEARCHED = ("tp", "pp", "ep", "mean_running", "max_num_seqs", "max_num_batched_tokens")

# rule -> (scenario file, changes to the scenario, changes to a shipped config.json, configuration, pattern of the
# numbers, rules that must be broken as well because this one is).
BREAKS = {
    "no_such_arithmetic": (
        "quickstart",
        {"inventory.h100.hardware": "{folder}/without-int8.yaml"},
        None,
        {"tp": 4, "weight_precision": "int8"},
        "it multiplies in bf16, fp8",
        ("prefill_cannot_keep_up", "too_few_sequences"),  # without a rate there is no time either
    ),
    "no_room_in_nodes": ("quickstart", {}, None, {"tp": 8, "pp": 2}, "16 devices in nodes of 8", ()),
    "heads_divide_by_tp": ("quickstart", {"inventory.h100.nodes": 5}, None, {"tp": 40}, "64 heads, tp 40", ()),
    "kv_heads_split_or_copy": (
        "quickstart",
        {},
        LLAMA | {"num_attention_heads": 24, "head_dim": 128, "intermediate_size": 12288},
        {"tp": 6},
        "8 KV heads, tp 6",
        (),
    ),
    "ep_is_one_or_all": ("quickstart", {}, MOE, {"tp": 4, "ep": 2}, "ep 2, tp 4, 128 experts", ()),
    "experts_divide_by_ep": (
        "ascend_910b",
        {"models.chat.precisions": "[bf16]"},
        MOE | {"num_experts": 60},
        {"tp": 8, "ep": 8},
        "60 experts, ep 8",
        (),
    ),
    "widths_divide_by_tp": ("quickstart", {}, LLAMA | {"intermediate_size": 14340}, {"tp": 8}, "width 14340", ()),
    "stage_has_a_layer": ("quickstart", {"inventory.h100.nodes": 5}, LLAMA, {"pp": 40}, "32 layers, pp 40", ()),
    "budget_covers_sequences": (
        "quickstart",
        {"workloads.chat.input_tokens": "10 token"},
        None,
        {"tp": 4, "pp": 2, "max_num_seqs": 640, "max_num_batched_tokens": 512},
        "512 tokens, 640 requests",
        (),
    ),
    "no_effect": (
        "quickstart",
        {"search.redundant_experts": "[32]"},
        MOE,
        {"tp": 4, "redundant_experts": 32},
        "redundant experts 32, overlaps 0",
        ("spares_need_ep",),
    ),
    "prompt_exceeds_budget": (
        "ascend_910b",
        {"engine": "{name: mindie}", "models.chat.precisions": "[bf16]"},
        None,
        {"tp": 4, "max_num_batched_tokens": 1024},
        "2000 prompt tokens, 1024 in a step",
        ("prefill_cannot_keep_up",),  # there is no step that takes a prompt
    ),
    "weights_do_not_fit": (
        "ascend_910b",
        {},
        None,
        {"tp": 1, "mean_running": 1, "max_num_seqs": 8},
        r"65\.5 GB weights, 0\.4 GB activations and 0\.\d GB buffers of 64\.7 GB",
        ("longest_request_fits", "kv_cache_too_small"),
    ),
    "longest_request_fits": (
        "quickstart",
        {"models.chat.max_model_len": "40960 token"},
        None,
        {"tp": 1, "mean_running": 1, "max_num_seqs": 8, "max_num_batched_tokens": 16384},
        r"9\.\d GB left, 10\.7 GB needed for 40960 tokens",
        (),
    ),
    "too_few_sequences": (
        "quickstart",
        {},
        None,
        {"tp": 4, "max_num_seqs": 16},
        r"max_num_seqs 16, 3\d\.\d needed",
        (),
    ),
    "kv_cache_too_small": (
        "quickstart",
        {"workloads.chat.output_tokens": "5000 token"},
        None,
        {"tp": 2, "mean_running": 256, "max_num_seqs": 512},
        r"4\d\.\d GB left, 2[56]\d\.\d GB needed",
        (),
    ),
    "prefill_cannot_keep_up": (
        "quickstart",
        {"workloads.chat.output_tokens": "10 token"},
        None,
        {"tp": 8, "max_num_batched_tokens": 512},
        r"5333 prompt tokens per step with room for 496, busy 10\d\d% of the time",
        (),
    ),
}


def case_of(folder, file, changes, config, axes):
    """A scenario that searches the configuration, so that only the rule under test can refuse it."""
    searched = {f"search.{axis}": [axes[axis]] for axis in SEARCHED if axis in axes}
    if "weight_precision" in axes:
        searched["models.chat.precisions"] = f"[{axes['weight_precision']}]"
    overrides = [f"{field}={value}".replace("{folder}", str(folder)) for field, value in (searched | changes).items()]
    lines = (resources.shipped("hardware_specs") / "h100-sxm.yaml").read_text().splitlines()
    kept = [line.replace("h100-sxm", "without-int8") for line in lines if not line.startswith("  int8:")]
    (folder / "without-int8.yaml").write_text("\n".join(kept))
    if config:
        source = resources.shipped("architectures") / config["architecture"] / "config.json"
        changed = json.loads(source.read_text()) | {k: v for k, v in config.items() if k != "architecture"}
        (folder / "config.json").write_text(json.dumps(changed))
        overrides.append(f"models.chat.architecture={folder / 'config.json'}")
    return load_scenario(SCENARIOS / f"{file}.yaml", ["calibration=textbook", *overrides])


def configuration_of(case, changes):
    plain = {"role": "mixed", "weight_precision": "bf16", "kv_precision": "bf16", "tp": 1, "pp": 1, "ep": 1}
    limits = {"mean_running": 16, "max_num_seqs": 64, "max_num_batched_tokens": 2048}
    (use,) = case.engines
    of_engine = {
        "workload": next(iter(case.scenario.workloads)),
        "engine": use.engine.name,
        "engine_version": use.version,
        "block_size": use.engine.block_size.value,
        "prefill_policy": use.engine.scheduling.policies.value[0],
    }
    return Configuration(inventory=next(iter(case.scenario.inventory)), **plain | limits | of_engine | changes)


def mixed_setting(case):
    (setting,) = [setting for setting in settings(case) if setting.role == "mixed"]
    return setting


def broken_rules(case, configuration):
    """Names of every rule the configuration breaks, not only the first."""
    setting = mixed_setting(case)
    values = configuration._asdict() | {"overlaps": 0}
    axes = {axis: np.array([encode(axis, values[axis])]) for axis in AXES}
    seqs, tokens = (np.array([float(n)]) for n in (configuration.max_num_seqs, configuration.max_num_batched_tokens))
    found = values_of(Context(setting, seqs, tokens, within_limits=False, mesh=False), axes)
    with np.errstate(all="ignore"):
        return {rule.name for rule in rules(setting) if np.broadcast_to(rule.broken(setting, found), (1,))[0]}


def test_every_rule_has_a_case_here():
    known = {*ENGINE_RULES, MEMORY_RULE.name, *(rule.name for rule in (*DEVICE_RULES, *LOAD_RULES))}
    assert set(BREAKS) == known


@pytest.mark.parametrize("name", BREAKS)
def test_a_configuration_that_breaks_exactly_one_rule(name, tmp_path):
    file, changes, config, axes, numbers, implied = BREAKS[name]
    case = case_of(tmp_path, file, changes, config, axes)
    configuration = configuration_of(case, axes)
    broken = broken_rules(case, configuration)
    assert broken == {name, *implied}
    table, refused = price(case, [configuration])
    assert len(table) == 0
    assert set(refused) == {0}
    meaning = {rule.name: rule.meaning for rule in (*DEVICE_RULES, *ENGINE_RULES.values(), MEMORY_RULE, *LOAD_RULES)}
    assert refused[0][:2] == (name, meaning[name])
    assert re.fullmatch(numbers, refused[0].detail), refused[0].detail
    assert [(r.rule, r.configurations) for r in table.rejected] == [(name, 1)]


def test_a_plain_configuration_breaks_none():
    case = load_scenario(SCENARIOS / "quickstart.yaml")
    configuration = configuration_of(case, {"tp": 4})
    assert broken_rules(case, configuration) == set()
    table, refused = price(case, [configuration])
    assert (len(table), refused) == (1, {})


def test_a_replica_that_spends_more_than_nine_tenths_of_its_time_on_prompts_cannot_keep_up():
    """Beyond a load of 1 the mean wait of the closed form turns negative, and TTFT would look best of all there."""
    overrides = [
        "workloads.chat.output_tokens=60 token",
        "search={tp: [4], pp: [1], max_num_batched_tokens: [2048], roles: [mixed]}",
    ]
    overrides += ["search.prefill_policies=[mixed_chunked]", "calibration=textbook"]
    case = load_scenario(SCENARIOS / "quickstart.yaml", overrides)
    setting = mixed_setting(case)
    running = np.array([float(b) for b in searched_values(setting)["mean_running"]])
    plain = configuration_of(case, {"tp": 4})._asdict() | {"overlaps": 0}
    axes = {axis: np.full_like(running, encode(axis, plain[axis])) for axis in AXES} | {"mean_running": running}
    found = figures(setting, axes)
    load = found["prefill_load"]
    # it rises up to saturation; beyond it, where tiles make steps a staircase, it never comes back
    assert (np.diff(load[: np.argmax(load > 1)]) > 0).all()
    assert (load[np.argmax(load > 0.9) :] > 0.9).all()
    assert load[0] < 0.9 < load[-1]
    assert ((load > 0.9) & (load < 1)).any()
    kept = {int(b) for b in grid_table(case).axes["mean_running"]}
    assert kept == {int(b) for b, at in zip(running, load, strict=True) if at <= 0.9}
    assert found["ttft"][load > 1].min() < found["ttft"][load <= 0.9].max()  # the flattery
    for b, at in zip(running, load, strict=True):
        _, refused = price(case, [configuration_of(case, {"tp": 4, "mean_running": int(b), "max_num_seqs": 1024})])
        assert (0 in refused and refused[0].rule == "prefill_cannot_keep_up") == (at > 0.9), b


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"weight_precision": "fp8"}, "weight_precision fp8"),
        ({"kv_precision": "fp8"}, "kv_precision fp8"),
        ({"role": "decode"}, "decode with vllm on h100"),
        ({"attention_dp": 2}, "attention_dp 2"),
        ({"tp": 8}, "tp 8"),
        ({"pp": 2}, "pp 2"),
        ({"ep": 2}, "ep 2"),
        ({"speculative_tokens": 1}, "speculative_tokens 1"),
        ({"mean_running": 33}, "mean_running 33"),
        ({"max_num_seqs": 65}, "max_num_seqs 65"),
        ({"max_num_batched_tokens": 2000}, "max_num_batched_tokens 2000"),
        ({"inventory": "h200"}, "mixed with vllm on h200"),
        ({"engine": "sglang"}, "mixed with sglang on h100"),
        ({"workload": "code"}, "mixed with vllm on h100"),
        ({"weight_precision": "of wood"}, "weight_precision of wood"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_scenario_does_not_search_is_refused(change, detail):
    case = load_scenario(SCENARIOS / "quickstart.yaml", ["search={tp: [2, 4], pp: [1], roles: [mixed]}"])
    good = configuration_of(case, {"tp": 4})
    table, refused = price(case, [good, good._replace(**change)])
    assert len(table) == 1
    assert refused == {1: ("outside_search", "the scenario does not allow this", detail)}


def test_max_num_seqs_is_restricted_where_the_scenario_says_so():
    case = load_scenario(SCENARIOS / "quickstart.yaml", ["search={tp: [4], pp: [1], max_num_seqs: [40, 100]}"])
    good = configuration_of(case, {"tp": 4, "max_num_seqs": 40})
    table, refused = price(case, [good, good._replace(max_num_seqs=64)])
    assert len(table) == 1
    assert {index: refusal.rule for index, refusal in refused.items()} == {1: "outside_search"}
    assert set(grid_table(case).axes["max_num_seqs"].tolist()) == {40, 100}


@pytest.mark.parametrize("model", ["Qwen3-32B", "Qwen3-30B-A3B"])
def test_the_grid_takes_the_smallest_limit_on_requests_that_suffices(model):
    """Found again by pricing: each smaller value is refused as too few, and for a point that is not in the table no
    value is legal."""
    overrides = ["search={tp: [1, 4], pp: [1, 2], max_num_batched_tokens: [512, 8192], roles: [mixed]}"]
    case = load_scenario(SCENARIOS / "quickstart.yaml", [*overrides, f"models.chat.architecture={model}"])
    table = grid_table(case)
    allowed = sequence_limits(case.scenario.search)
    chosen = np.random.default_rng(2).choice(len(table), 25, replace=False)
    for column in chosen:
        configuration = table.configuration(int(column))
        smaller = [configuration._replace(max_num_seqs=n) for n in allowed if n < configuration.max_num_seqs]
        _, refused = price(case, [configuration, *smaller])
        rules_of = {index: refusal.rule for index, refusal in refused.items()}
        assert rules_of == dict.fromkeys(range(1, len(smaller) + 1), "too_few_sequences")


def test_refusals_keep_their_place_among_legal_configurations():
    case = load_scenario(SCENARIOS / "quickstart.yaml")
    good, bad = configuration_of(case, {"tp": 4}), configuration_of(case, {"tp": 8, "pp": 2})
    lost = good._replace(inventory="elsewhere")
    table, refused = price(case, [bad, good, lost, good._replace(tp=8)])
    assert {index: refusal.rule for index, refusal in refused.items()} == {
        0: "no_room_in_nodes",
        2: "outside_search",
    }
    assert [table.configuration(i).tp for i in range(len(table))] == [4, 8]


def test_engine_rules_are_the_schema_s():
    assert set(ENGINE_RULES) == set(typing.get_args(RuleName))
    assert all(name == rule.name for name, rule in ENGINE_RULES.items())


@pytest.mark.parametrize("engine", engine_names())
def test_engine_rules_have_sources_and_are_listed_once(engine):
    loaded = load_engine(engine).value
    names = [rule.rule for rule in loaded.rules]
    assert len(names) == len(set(names)) > 0
    for rule in loaded.rules:
        assert rule.source
        assert set(rule.source) <= set(loaded.sources), rule.rule


def test_every_engine_rule_is_used_by_some_engine():
    used = {rule.rule for engine in engine_names() for rule in load_engine(engine).value.rules}
    assert used == set(ENGINE_RULES)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"nodes": 2}, (8, 8)),
        ({"devices": 8}, (8,)),
        ({"devices": 5}, (5,)),
        ({"devices": 12}, (8, 4)),
        ({"nodes": 2, "reserved_devices": 1}, (8, 7)),
        ({"nodes": 2, "reserved_devices": 8}, (8,)),
        ({"nodes": 2, "reserved_devices": 10}, (6,)),
        ({"devices": 12, "reserved_devices": 5}, (7,)),
        ({"nodes": 1, "reserved_devices": 8}, ()),
        ({"nodes": 1, "reserved_devices": 99}, ()),
    ],
)
def test_node_sizes(item, expected):
    """Reserved devices come out of the last nodes, so that as many as possible stay whole."""
    assert node_sizes(InventoryItem(hardware="h100-sxm", **item), 8) == expected


@pytest.mark.parametrize(
    ("inventory", "tp", "pp", "legal"),
    [
        ({"devices": 4}, 4, 1, True),
        ({"devices": 4}, 8, 1, False),
        ({"devices": 12}, 4, 2, True),
        ({"devices": 12}, 4, 3, False),  # spans nodes, so they must be whole
        ({"devices": 16}, 8, 2, True),
        ({"nodes": 2, "reserved_devices": 1}, 8, 2, False),
        ({"nodes": 2}, 8, 4, False),
        ({"nodes": 3}, 4, 3, False),  # 12 devices are one and a half nodes
        ({"nodes": 3}, 8, 3, True),
    ],
)
def test_replicas_fit_one_node_or_several_whole_ones(inventory, tp, pp, legal):
    item = {"hardware": "h100-sxm", "price": "1 USD/h"} | inventory
    overrides = [f"inventory.h100={item}", f"search={{tp: [{tp}], pp: [{pp}]}}"]
    case = load_scenario(SCENARIOS / "quickstart.yaml", overrides)
    _, refused = price(case, [configuration_of(case, {"tp": tp, "pp": pp, "mean_running": 4, "max_num_seqs": 24})])
    assert [refusal.rule for refusal in refused.values()] == ([] if legal else ["no_room_in_nodes"])
