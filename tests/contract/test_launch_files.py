"""Every launch format over every scenario: what files say is the plan, and what the pinned engine takes."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from planner import handover, pipeline, yaml_io
from planner.catalog import load_scenario
from planner.columns.pricing import price
from planner.exporters import FORMATS
from planner.launch import definition as definitions
from planner.launch.definition import definition, from_flags
from planner.plan import Deployment
from planner.table import AXES, Configuration

SCENARIOS = Path(__file__).parents[2] / "scenarios"
DEFINITIONS = Path(definitions.__file__).parent / "definitions"
LAUNCH = {name: format for name, format in FORMATS.items() if format.reads}
# A plan is for one engine: scenarios of another are asked again for this one.
ASKED = [
    ("vllm", "quickstart", ()),
    ("vllm", "ascend_and_gpu", ()),
    ("vllm", "code_completion", ()),
    ("vllm", "deepseek_v3_h200", ()),
    ("vllm", "h800_h20", ()),
    ("vllm", "llama_70b_least_cost", ()),
    ("vllm", "long_context", ()),
    ("vllm", "offline_batch", ()),
    ("vllm", "what_runs_today", ()),
    ("vllm-ascend", "ascend_910b", ()),
    ("vllm-ascend", "ascend_and_gpu", ()),
    ("vllm-ascend", "deepseek_r1_910c", ()),
    ("sglang", "quickstart", ("engine={name: sglang}",)),
    ("sglang", "code_completion", ("engine={name: sglang}",)),
    ("sglang", "deepseek_v3_h200", ("engine={name: sglang}",)),
    ("sglang", "long_context", ("engine={name: sglang}",)),
]


@pytest.fixture(params=ASKED, ids=lambda asked: f"{asked[0]}-{asked[1]}", scope="module")
def exported(request, solved):
    """A format, a case, its plan, what exporters know, and what they wrote."""
    name, scenario, settings = request.param
    path = SCENARIOS / f"{scenario}.yaml"
    plan = solved(path, settings).plan
    case = load_scenario(path, settings)
    facts = handover.facts_of(case)
    return LAUNCH[name], case, plan, facts, LAUNCH[name].load().files(plan, facts)


def test_every_scenario_with_a_plan_is_among_them():
    asked = {scenario for _, scenario, _ in ASKED}
    without = {"infeasible", "column_table"}
    assert asked | without == {path.stem for path in SCENARIOS.glob("*.yaml")}
    assert {name for name, *_ in ASKED} == set(LAUNCH)


def test_what_files_say_is_the_plan(exported):
    format, _, plan, facts, written = exported
    found = format.load().read(written, plan, facts)
    mine = [d for d in plan.deployments if isinstance(d, Deployment) and d.name in found]
    assert mine
    for d in mine:
        for field, value in found[d.name].fields.items():
            assert value == getattr(d, field), f"{d.name}.{field}"
        decided = {"role", "max_num_seqs", *AXES} - {"mean_running", "prefill_utilisation"}
        assert decided <= set(found[d.name].fields)
        assert len(found[d.name].devices) == d.replicas
        for parts in found[d.name].devices:
            assert sum(len(devices) for _, devices in parts) == d.devices_per_replica


def test_what_files_say_costs_what_the_plan_says(exported):
    """Configurations as they are read, priced anew; the load is no setting of an engine, so it is the plan's."""
    format, case, plan, facts, written = exported
    found = format.load().read(written, plan, facts)
    mine = [d for d in plan.deployments if isinstance(d, Deployment) and d.name in found]
    read = [
        d.configuration()._replace(**{k: v for k, v in found[d.name].fields.items() if k in Configuration._fields})
        for d in mine
    ]
    table, refused = price(case, read)
    assert not refused
    np.testing.assert_allclose(table.figures["rate"], [d.requests_per_s / d.replicas for d in mine], rtol=1e-9)
    np.testing.assert_allclose(table.figures["kv_cache_bytes"], [d.memory_bytes.kv_cache for d in mine], rtol=1e-9)


def test_a_changed_setting_is_read_as_changed(exported):
    """The reader reads: it does not repeat the plan."""
    format, _, plan, facts, written = exported
    path = next(path for path in written if path.endswith(("/vllm.yaml", "/sglang.yaml")))
    settings = yaml_io.parse(written[path], path).data
    key = next(key for key in ("max-num-seqs", "max-running-requests") if key in settings)
    settings[key] *= 2
    found = format.load().read({**written, path: yaml_io.dump(settings)}, plan, facts)
    limits = {d.name: d.max_num_seqs for d in plan.deployments}
    assert sum(each.fields["max_num_seqs"] != limits[name] for name, each in found.items()) == 1


def test_no_device_is_given_twice_and_no_port(exported):
    format, _, plan, facts, written = exported
    found = format.load().read(written, plan, facts)
    given = [(node, i) for each in found.values() for parts in each.devices for node, some in parts for i in some]
    assert len(given) == len(set(given))
    for path, text in written.items():
        if path.endswith(".compose.yaml") and not path.startswith("front"):
            services = yaml_io.parse(text, path).data["services"].values()
            ports = [from_flags(format.name, "serve", service["command"]).get("port") for service in services]
            taken = [port for port in ports if port]
            assert len(taken) == len(set(taken))


def test_compose_files_are_what_compose_takes(exported):
    _, _, _, _, written = exported
    schema = json.loads((DEFINITIONS / "compose.schema.json").read_text())
    for path, text in written.items():
        if path.endswith(".compose.yaml"):
            jsonschema.validate(yaml_io.parse(text, path).data, schema)


def test_variables_in_files_have_a_value(exported):
    _, _, _, _, written = exported
    given = {line.split("=")[0] for line in written["hosts.env"].splitlines() if "=" in line and line[0] != "#"}
    for path, text in written.items():
        for used in text.split("${")[1:]:
            assert used.split("}")[0] in given, path


def test_every_option_is_of_the_pinned_version_with_a_legal_value(exported):
    format, _, _, _, written = exported
    held = definition(format.pinned[0])
    for path, text in written.items():
        assert "None" not in text, path
        if path.endswith(("/vllm.yaml", "/sglang.yaml")):
            assert held.version in text.splitlines()[0]
            assert list(held.faults("serve", yaml_io.parse(text, path).data)) == []
        if path.endswith(".compose.yaml") and not path.startswith("front"):
            for service in yaml_io.parse(text, path).data["services"].values():
                assert held.version in service["image"]
                options = from_flags(format.name, "serve", service["command"])
                assert list(held.faults("serve", options)) == []
                assert list(held.unread(service["environment"])) == []


def test_an_option_that_the_version_does_not_know_is_a_fault():
    held = definition("vllm")
    faults = [
        ("kv-cache-dtype", "fp7"),
        ("tensor-parallel-size", "two"),
        ("gpu-memory", 0.9),
        ("kv-transfer-config", {"kv_conector": "NixlConnector"}),
        ("enable-eplb", 1),
    ]
    for name, value in faults:
        assert len(list(held.faults("serve", {name: value}))) == 1, name
    assert list(held.faults("serve", {"no-enable-chunked-prefill": True})) == []
    assert len(list(held.faults("serve", {"no-enable-something": True}))) == 1
    assert list(held.unread(["VLLM_NO_SUCH_VARIABLE"])) != []


def test_a_plan_for_another_engine_is_refused(solved):
    plan = solved(SCENARIOS / "ascend_910b.yaml").plan
    with pytest.raises(handover.InputError, match="solved for vllm-ascend"):
        handover.export(plan, "sglang", SCENARIOS)


def test_a_plan_without_configurations_is_refused(solved):
    for scenario in ("column_table", "infeasible"):
        with pytest.raises(handover.InputError, match="no deployment with a configuration"):
            handover.export(solved(SCENARIOS / f"{scenario}.yaml").plan, "vllm", SCENARIOS)


def test_a_tampered_plan_is_refused(solved):
    plan = solved(SCENARIOS / "quickstart.yaml").plan
    first = plan.deployments[0]
    for changed in (first._replace(max_num_seqs=512), first._replace(requests_per_s=99.0), first._replace(replicas=5)):
        with pytest.raises(handover.InputError, match="not as it was solved"):
            handover.export(plan._replace(deployments=(changed,)), "vllm", SCENARIOS)
    assert pipeline.verify_figures(plan, load_scenario(SCENARIOS / "quickstart.yaml"), SCENARIOS).reasons == ()
