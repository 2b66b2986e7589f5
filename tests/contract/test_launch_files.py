"""Every launch format over every scenario: what files say is the plan, and what the pinned engine takes."""

import json
import math
import re
import subprocess
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from planner import handover, pipeline, yaml_io
from planner.catalog import load_scenario
from planner.columns.pricing import price
from planner.comparison.operating import Load, seen, streams
from planner.errors import InputError, InternalError
from planner.exporters import FORMATS
from planner.exporters.json_file import plan_text
from planner.launch import definition as definitions
from planner.launch import mindie, vendor, vllm, vllm_ascend
from planner.launch.definition import definition, from_flags
from planner.launch.servers import FRONT, METRICS, ROUTER, address_of, clients_of_one, servers, slug
from planner.launch.vllm_ascend import exchange_buffer
from planner.plan import Deployment
from planner.table import AXES, Configuration

SCENARIOS = Path(__file__).parents[2] / "scenarios"
DEFINITIONS = Path(definitions.__file__).parent / "definitions"
LAUNCH = {name: format for name, format in FORMATS.items() if format.reads}
_SGLANG, _TRTLLM = "engine={name: sglang}", "engine={name: trtllm}"
CONFIGS = ("/vllm.yaml", "/sglang.yaml", "/trtllm.yaml", "/mindie.json")
# A plan is for one engine: scenarios of another are asked again for this one.
_MINDIE = (
    "engine={name: mindie}",
    "search.roles=[mixed]",
    "search.pp=[1]",
    "workloads.chat.slo={ttft: 8 s, tpot: 100 ms}",  # it does not cut prompts
)
# DeepSeek-R1 takes two nodes: of eight devices each that meet by RoCE, or of sixteen within a supernode.
_MINDIE_R1 = (*_MINDIE[:3], "workloads.reasoning.slo={ttft: 8 s, tpot: 100 ms}")
_TWO_NODES = ("deepseek_r1_910c", (*_MINDIE_R1, "inventory={supernode: {hardware: ascend-910b3, nodes: 4}}"))
_IN_SUPERNODE = ("deepseek_r1_910c", (*_MINDIE_R1, "search.attention_dp=[4]"))
ASKED = [
    ("vllm", "quickstart", ()),
    ("vllm", "ascend_and_gpu", ()),
    ("vllm", "code_completion", ()),
    ("vllm", "deepseek_v3_h200", ()),
    ("vllm", "fake_engine", ()),
    ("vllm", "h800_h20", ()),
    ("vllm", "llama_70b_least_cost", ()),
    ("vllm", "long_context", ()),
    ("vllm", "offline_batch", ()),
    ("vllm", "what_runs_today", ()),
    ("vllm-ascend", "ascend_910b", ()),
    ("vllm-ascend", "ascend_and_gpu", ()),
    ("vllm-ascend", "deepseek_r1_910c", ()),
    ("sglang", "quickstart", (_SGLANG,)),
    ("sglang", "code_completion", (_SGLANG,)),
    ("sglang", "deepseek_v3_h200", (_SGLANG,)),
    ("sglang", "long_context", (_SGLANG,)),
    ("trtllm", "quickstart", (_TRTLLM,)),
    ("trtllm", "long_context", (_TRTLLM,)),
    ("trtllm", "deepseek_v3_h200", (_TRTLLM, "search.ep=[16, 32]")),  # replicas of two nodes
    ("mindie", "ascend_910b", _MINDIE),
    ("mindie", "ascend_910b", (*_MINDIE, "models.chat.precisions=[bf16]")),
    ("mindie", *_TWO_NODES),
    ("mindie", *_IN_SUPERNODE),
    ("dynamo", "quickstart", ()),
    ("dynamo", "ascend_and_gpu", ()),
    ("dynamo", "code_completion", ()),
    ("dynamo", "deepseek_v3_h200", ()),
    ("dynamo", "h800_h20", ()),
    ("dynamo", "llama_70b_least_cost", ()),
    ("dynamo", "long_context", ()),
    ("dynamo", "offline_batch", ()),
    ("dynamo", "what_runs_today", ()),
    ("dynamo", "deepseek_v3_h200", (_SGLANG,)),
    ("dynamo", "long_context", (_TRTLLM,)),
]


@pytest.fixture(params=ASKED, ids=lambda asked: "-".join(asked[:2]), scope="module")
def exported(request, solved):
    """A format, a case, its plan, what exporters know, and what they wrote."""
    name, scenario, settings = request.param
    path = SCENARIOS / f"{scenario}.yaml"
    plan = solved(path, settings).plan
    case = load_scenario(path, settings)
    facts = handover.facts_of(case, plan)
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


_LIMIT = re.compile(
    r"""(max-num-seqs: |max-running-requests: |max_batch_size: |"maxBatchSize": """
    r"""|--max-[a-z]+-(?:seqs|requests)\n +- ')(\d+)"""
)


def test_a_changed_setting_is_read_as_changed(exported):
    """The reader reads: it does not repeat the plan."""
    format, _, plan, facts, written = exported
    path = next(path for path, text in written.items() if _LIMIT.search(text))
    text = _LIMIT.sub(lambda match: f"{match[1]}{2 * int(match[2])}", written[path], count=1)
    found = format.load().read({**written, path: text}, plan, facts)
    limits = {d.name: d.max_num_seqs for d in plan.deployments}
    assert sum(each.fields["max_num_seqs"] != limits[name] for name, each in found.items()) == 1


def test_no_device_is_given_twice_and_no_port(exported):
    format, _, plan, facts, written = exported
    found = format.load().read(written, plan, facts)
    given = [(node, i) for each in found.values() for parts in each.devices for node, some in parts for i in some]
    if format.name != "dynamo":  # there Kubernetes decides
        assert len(given) == len(set(given))
    for services in composed(written).values():
        probes = [service["healthcheck"]["test"][-1] for service in services.values() if "healthcheck" in service]
        assert len(probes) == len(set(probes))


def composed(written):
    """The services of each node's Compose file."""
    files = {path: text for path, text in written.items() if path.endswith(".compose.yaml") and "front" not in path}
    return {path: yaml_io.parse(text, path).data["services"] for path, text in files.items()}


def configured(written):
    """The options of each deployment's file."""
    return {path: yaml_io.parse(text, path).data for path, text in written.items() if path.endswith(CONFIGS)}


def test_memory_fractions_give_the_cache_what_the_plan_has(exported):
    """By the engines' own definitions of their fractions, and within the digits these are written with."""
    format, _, plan, facts, written = exported
    for path, options in configured(written).items():
        d = next(d for d in plan.deployments if slug(d.name) == path.split("/")[0])
        m = d.memory_bytes
        others = m.activations + m.graphs + m.communication + m.runtime
        if format.name == "sglang":
            base = m.capacity - facts.engines["sglang"].base_bytes - m.communication
            cache = options["mem-fraction-static"] * base - m.weights
        elif format.name == "trtllm":
            share = options["kv_cache_config"]["free_gpu_memory_fraction"]
            cache = share * (m.capacity - m.weights - others)
        else:
            share = options.get("gpu-memory-utilization")
            if format.name == "mindie":
                (share,) = {
                    float(service["environment"]["NPU_MEMORY_FRACTION"])
                    for services in composed(written).values()
                    for service in services.values()
                    if f"./{slug(d.name)}:/launch:ro" in service["volumes"]
                }
            cache = share * m.capacity - m.weights - others
        assert cache == pytest.approx(m.kv_cache, abs=2e-4 * m.capacity)


def test_compose_files_are_what_compose_takes(exported):
    _, _, _, _, written = exported
    schema = json.loads((DEFINITIONS / "compose.schema.json").read_text())
    for path, text in written.items():
        if path.endswith(".compose.yaml"):
            jsonschema.validate(yaml_io.parse(text, path).data, schema)


def test_kubernetes_objects_are_what_kubernetes_takes(exported):
    format, _, _, _, written = exported
    schema = json.loads((DEFINITIONS / "kubernetes.schema.json").read_text())
    manifests = {path: text for path, text in written.items() if format.name == "dynamo" and path.endswith(".yaml")}
    for path, text in manifests.items():
        for item in yaml_io.parse_all(text, path):
            jsonschema.validate(item, schema)
            assert "&id" not in text


def test_variables_in_files_have_a_value(exported):
    _, _, _, _, written = exported
    lines = written.get("hosts.env", "").splitlines()
    given = {line.split("=")[0] for line in lines if "=" in line and line[0] != "#"}
    for path, text in written.items():
        for used in text.split("${")[1:]:
            assert used.split("}")[0] in given, path


def test_every_option_is_of_the_pinned_version_with_a_legal_value(exported):
    format, _, _, _, written = exported
    for path, text in written.items():
        assert "None" not in text, path
    if format.name == "dynamo":
        return
    held = definition(format.pinned[0])
    for path, options in configured(written).items():
        assert path.endswith(".json") or held.version in written[path].splitlines()[0]
        own = {name: value for name, value in options.items() if name != "moe_config"}  # its objects are in no manifest
        assert list(held.faults("serve", own)) == []
    program = "start" if format.name == "trtllm" else "serve"
    for services in composed(written).values():
        for service in services.values():
            assert held.version in service["image"]
            words = service["command"]
            assert list(held.unread(service["environment"])) == []
            if format.name != "mindie":  # its server takes no options
                options = from_flags(format.name, program, words[1:] if format.name == "trtllm" else words)
                assert list(held.faults(program, options)) == []


def test_workers_of_dynamo_take_what_the_version_in_their_image_knows(exported):
    format, _, _, _, written = exported
    if format.name != "dynamo":
        return
    backends = format.load().BACKENDS
    graphs = [
        item
        for path, text in written.items()
        if path.endswith(".yaml")
        for item in yaml_io.parse_all(text, path)
        if item["kind"] == "DynamoGraphDeployment"
    ]
    assert graphs
    for graph in graphs:
        name = graph["spec"]["backendFramework"]
        for component in graph["spec"]["components"]:
            for container in component["podTemplate"]["spec"]["containers"]:
                assert container["image"] == backends[name].image
                words = container.get("args", [])
                own = (
                    words.index("--disaggregation-mode")
                    if name == "vllm" and "--disaggregation-mode" in words
                    else None
                )
                held, program = (
                    (definition("dynamo"), "trtllm")
                    if name == "trtllm"
                    else (definition(backends[name].definition), "serve")
                )
                options = from_flags(
                    backends[name].definition if program == "serve" else "dynamo", program, words[:own]
                )
                assert list(held.faults(program, options)) == []
                worker = definition(backends[name].worker)
                assert container["image"].endswith(f":{worker.version}")
                added = from_flags(backends[name].worker, name, words[own:] if own is not None else [])
                assert list(worker.faults(name, added)) == []


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
    with pytest.raises(InputError, match="solved for vllm-ascend"):
        handover.export(plan, "sglang", SCENARIOS)


@pytest.mark.parametrize(
    ("format", "hardware", "image"),
    [
        ("vllm-ascend", "ascend-910b3", "quay.io/ascend/vllm-ascend:v0.24.0rc1"),
        ("vllm-ascend", "ascend-910c-a3", "quay.io/ascend/vllm-ascend:v0.24.0rc1-a3"),
        ("vllm-ascend", "ascend-310p", None),
        ("vllm-ascend", "ascend-910a", None),
        ("vllm-ascend", "ascend-950pr", None),
        ("mindie", "ascend-910b2", "mindie:3.0.0-800I-A2-py311-openeuler24.03-lts"),
        ("mindie", "ascend-310p", None),
    ],
)
def test_an_image_is_for_the_device_or_none(format, hardware, image):
    """Images of one vendor differ by device: that of another device would start, and find no kernels."""
    engine = {"vllm-ascend": vllm_ascend, "mindie": mindie}[format].ENGINE
    if image is None:
        with pytest.raises(InputError, match=rf"no image .* for {hardware} of Huawei .* only for ascend-910b"):
            vendor.image(engine, hardware, "Huawei")
    else:
        assert vendor.image(engine, hardware, "Huawei") == image


def test_a_pair_of_several_shapes_is_refused_where_the_connector_takes_one(solved):
    path, settings = SCENARIOS / "deepseek_r1_910c.yaml", ()
    plan = solved(path, settings).plan
    facts = handover.facts_of(load_scenario(path, settings), plan)
    one = next(d for d in plan.deployments if d.role == "prefill")
    assert one.replicas > 1
    assert one.tp > 1
    wider = one._replace(name="reasoning-prefill-9", replicas=1, tp=one.tp // 2, attention_dp=one.attention_dp * 2)
    rest = [d for d in plan.deployments if d is not one]
    deployments = (one._replace(replicas=one.replicas - 1), wider, *rest)
    with pytest.raises(InputError, match=r"takes one shape of prefill replicas .*reasoning-.*solve again with"):
        LAUNCH["vllm-ascend"].load().files(plan._replace(deployments=deployments), facts)


def test_a_pair_whose_prefill_has_the_smaller_tp_is_refused_where_the_connector_is(solved):
    path, settings = SCENARIOS / "deepseek_r1_910c.yaml", ()
    plan = solved(path, settings).plan
    facts = handover.facts_of(load_scenario(path, settings), plan)
    turned = [
        d._replace(tp=1, attention_dp=d.tp * d.attention_dp) if d.role == "prefill" else d for d in plan.deployments
    ]
    with pytest.raises(InputError, match="takes no prefill of tp 1 for a decode of tp 2"):
        LAUNCH["vllm-ascend"].load().files(plan._replace(deployments=tuple(turned)), facts)


@pytest.mark.parametrize("format", ["vllm", "mindie", "dynamo"])
def test_a_plan_without_configurations_is_refused(format, solved):
    for scenario, why in (("column_table", "table of rates"), ("infeasible", "no plan: proven infeasible")):
        with pytest.raises(InputError, match=f"nothing to write for {format}: .*{why}"):
            handover.export(solved(SCENARIOS / f"{scenario}.yaml").plan, format, SCENARIOS)


def test_a_tampered_plan_is_refused(solved):
    plan = solved(SCENARIOS / "quickstart.yaml").plan
    first = plan.deployments[0]
    for changed in (first._replace(max_num_seqs=512), first._replace(requests_per_s=99.0), first._replace(replicas=5)):
        with pytest.raises(InputError, match="not as it was solved"):
            handover.export(plan._replace(deployments=(changed,)), "vllm", SCENARIOS)
    assert pipeline.verify_figures(plan, load_scenario(SCENARIOS / "quickstart.yaml"), SCENARIOS).reasons == ()


def ports_of(server, engine):
    """Every port that a replica takes on the node it starts on: for requests, for caches, where its parts meet.

    SGLang's are those of server_args.py, PortArgs.init_new: six after where attention ranks meet, which is 233 above
    its first port within a node. vLLM has one more between attention ranks of several nodes.
    """
    d = server.deployment
    taken = [server.port, *range(server.transfer_port, server.transfer_port + d.devices_per_replica)]
    meets = server.rendezvous_port if len(server.parts) > 1 else server.port + 233
    if engine == "sglang" and d.attention_dp > 1:
        taken += range(meets, meets + 7)
    elif len(server.parts) > 1:
        taken += [meets, meets + 1000]
    return taken + ([server.port + 1000, server.port + 2000] if engine == "mindie" else [])


def test_replicas_of_a_node_share_no_port(exported):
    format, _, plan, facts, _ = exported
    by_node = {}
    for server in servers(plan, facts):
        by_node.setdefault(server.head, []).extend(ports_of(server, format.name))
    for node, taken in by_node.items():
        assert len(taken) == len(set(taken)), node
        assert not set(taken) & {FRONT, ROUTER, METRICS}
        assert max(taken) < 65536


def test_attention_ranks_of_sglang_keep_apart_on_a_node(solved):
    """Eight replicas on a node, each of which takes more ports than the one for requests."""
    path, settings = SCENARIOS / "quickstart.yaml", (_SGLANG, "search.roles=[mixed]")
    plan = solved(path, settings).plan
    facts = handover.facts_of(load_scenario(path, settings), plan)
    (d,) = plan.deployments
    many = plan._replace(deployments=(d._replace(replicas=8, devices_per_replica=1, attention_dp=2),))
    taken = [port for server in servers(many, facts) for port in ports_of(server, "sglang")]
    assert len(taken) == len(set(taken)) == 8 * (1 + 1 + 7)


def test_states_of_linear_attention_are_in_the_layout_that_is_sent(solved):
    """vLLM's connector stops at start in any other; replicas that send nothing keep the engine's own."""
    path = SCENARIOS / "deepseek_v3_h200.yaml"
    plan = solved(path).plan
    facts = handover.facts_of(load_scenario(path), plan)
    for server in servers(plan, facts):
        d = server.deployment
        mamba = server._replace(
            deployment=d._replace(attention=d.attention._replace(layers={"gated_delta": 1, "gqa": 1}))
        )
        said = [vllm.ENGINE.environment(s, 0, facts).get("VLLM_SSM_CONV_STATE_LAYOUT") for s in (server, mamba)]
        assert said == [None, None if d.role == "mixed" else "DS"]


def test_benchmarks_stand_beside_what_is_predicted_for_their_own_load(exported):
    """A loop of clients on one replica as `planner compare` predicts it; the whole load as the plan does, averaged."""
    format, case, plan, _, written = exported
    if format.name == "dynamo":
        return
    rates = {}
    for path, text in written.items():
        if not path.startswith("benchmark/"):
            continue
        name, line = path.removeprefix("benchmark/").removesuffix(".sh"), text.splitlines()[2]
        rate, ttft, tpot = (
            float(n.replace(" ", "")) for n in re.findall(r"([\d. ]+) (?:request/s|ms)", line.split("# ")[1])[:3]
        )
        d = next((d for d in plan.deployments if slug(d.name) == name), None)
        if d is None:
            rates[name] = rate
            continue
        clients, lengths = clients_of_one(d), case.scenario.workloads[d.workload]
        assert f"{clients} clients" in text
        (stream,) = streams(plan, d.name)
        one = stream._replace(parts=(d._replace(replicas=1),))
        load = Load(0.0, clients, round(lengths.input_tokens), round(lengths.output_tokens), same_lengths=True)
        found = seen(case, [one], load)
        assert (ttft, tpot) == pytest.approx((1e3 * found.ttft, 1e3 * found.tpot), rel=1e-3)
        assert rate == pytest.approx(1e3 * clients / (ttft + tpot * (round(lengths.output_tokens) - 1)), rel=2e-3)
    mine = [d for d in plan.deployments if isinstance(d, Deployment) and d.engine.name == format.name]
    for workload in {d.workload for d in mine}:
        planned = sum(d.requests_per_s for d in mine if d.workload == workload and d.role == "mixed")
        pairs = {d.name for d in mine if d.workload == workload and d.role == "decode"}
        planned += sum(route.requests_per_s for route in plan.routes if route.decode in pairs)
        assert rates[slug(workload)] == pytest.approx(planned, rel=1e-3)


def test_the_plan_lies_where_readme_and_scripts_name_it(solved):
    path = SCENARIOS / "quickstart.yaml"
    plan = solved(path).plan
    for name in LAUNCH:
        if name in ("vllm", "dynamo"):
            written = handover.export(plan, name, SCENARIOS)
            assert written["plan.json"] == plan_text(plan)
            assert "planner compare plan.json" in written["README.md"]
    assert "/plan.json $PWD/chat.json" in handover.export(plan, "vllm", SCENARIOS)["benchmark/chat.sh"]


def test_routers_of_one_node_share_no_port(exported):
    _, _, _, _, written = exported
    front = yaml_io.parse(written["front.compose.yaml"], "").data["services"] if "front.compose.yaml" in written else {}
    words = [" ".join(service.get("command", ())) for service in front.values()]
    taken = [port for line in words for port in re.findall(r"-port (\d+)", line)]
    assert len(taken) == len(set(taken))


def test_a_block_size_that_is_missing_is_a_fault_unless_the_kernel_chooses(exported):
    format, _, plan, facts, written = exported
    option = {"vllm": "block-size", "vllm-ascend": "block-size", "sglang": "page-size"}.get(format.name)
    for path, text in written.items():
        if option is None or not path.endswith(CONFIGS):
            continue
        d = next(d for d in plan.deployments if slug(d.name) == path.split("/")[0])
        lines = text.splitlines(keepends=True)
        left = "".join(line for line in lines if not line.startswith(f"{option}:"))
        if left == text:
            assert facts.models[d.model].latent
            assert f"{option} is left to the engine" in text
            assert text.splitlines()[2].endswith(f"blocks of {d.block_size}")
        elif not facts.models[d.model].latent:
            with pytest.raises(InternalError, match=f"{option} is missing"):
                format.load().read({**written, path: left}, plan, facts)


def test_parts_on_several_nodes_are_told_their_network(exported):
    """What its documentation sets for replicas of several nodes, and the adapters that they reach each other by."""
    format, _, plan, facts, written = exported
    apart = {d.name for d in plan.deployments if isinstance(d, Deployment) and d.role != "mixed"}
    for server in servers(plan, facts):
        d = server.deployment
        if d.engine.name != format.name or (len(server.parts) == 1 and d.name not in apart):
            continue
        if f"{server.name}.sbatch" in written:
            continue  # its network is the cluster's
        service = next(s for services in composed(written).values() for n, s in services.items() if n == server.name or
                       n == f"{server.name}-n0")  # fmt: skip
        variables, vendor = service["environment"], facts.inventory[d.inventory].vendor
        if len(server.parts) > 1:
            assert variables["GLOO_SOCKET_IFNAME"] == "${NETWORK_INTERFACE}"
        if vendor == "Huawei":
            own, start = {
                "mindie": ("MIES_CONTAINER_IP", written.get(f"{slug(d.name)}/start.sh", "")),
                "vllm-ascend": ("HCCL_IF_IP", " ".join(service["entrypoint"])),
            }[format.name]
            assert variables[own] == f"${{{address_of(server.head)}}}"
            assert "source /usr/local/Ascend/ascend-toolkit/set_env.sh" in start
        elif len(facts.inventory[d.inventory].stock.nodes) > 1:
            assert "/dev/infiniband:/dev/infiniband" in service["devices"]


def test_spare_copies_of_experts_follow_the_load(solved):
    """The plan counts on copies that share what their experts get; TensorRT-LLM moves none unless it is told to."""
    path, settings = SCENARIOS / "deepseek_v3_h200.yaml", (_TRTLLM, "search.ep=[16, 32]")
    plan = solved(path, settings).plan
    facts = handover.facts_of(load_scenario(path, settings), plan)
    written = LAUNCH["trtllm"].load().files(plan, facts)
    spared = [d for d in plan.deployments if d.redundant_experts]
    assert spared
    for d in spared:
        balancer = configured(written)[f"{slug(d.name)}/trtllm.yaml"]["moe_config"]["load_balancer"]
        assert balancer["layer_updates_per_iter"] > 0
        assert balancer["num_slots"] % d.ep == 0


def test_a_job_starts_one_process_per_device_where_the_hosts_file_says(solved, tmp_path):
    """Run by a shell with Slurm's commands replaced: what it would start, from which folder, with which variables."""
    path, settings = SCENARIOS / "deepseek_v3_h200.yaml", (_TRTLLM, "search.ep=[16, 32]")
    plan = solved(path, settings).plan
    facts = handover.facts_of(load_scenario(path, settings), plan)
    written = LAUNCH["trtllm"].load().files(plan, facts)
    spanning = [server for server in servers(plan, facts) if len(server.parts) > 1]
    assert spanning
    (tmp_path / "hosts.env").write_text(written["hosts.env"].replace("MODELS=/models", "MODELS=/fast/models"))
    stub = tmp_path / "bin" / "srun"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@"; echo "token=$HF_TOKEN"\n')
    stub.chmod(0o755)
    (tmp_path / "hosts.env").write_text((tmp_path / "hosts.env").read_text().replace("HF_TOKEN=", "HF_TOKEN=secret"))
    for server in spanning:
        name = f"{server.name}.sbatch"
        (tmp_path / name).write_text(written[name])
        environment = {"PATH": f"{stub.parent}:/usr/bin:/bin", "SLURM_SUBMIT_DIR": str(tmp_path)}
        words = subprocess.run(
            ["bash", name], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        )
        said = words.stdout.splitlines()
        folder = slug(server.deployment.name)
        assert said[said.index("trtllm-llmapi-launch") + 1] == "trtllm-serve"
        mounts = f"--container-mounts={tmp_path}/{folder}:/launch,/fast/models:/models,/root/.cache/huggingface"
        assert any(word.startswith(mounts) for word in said)
        assert "--container-image=nvcr.io#nvidia/tensorrt-llm/release:1.3.0rc29" in said
        assert said[-1] == "token=secret"
        asked = dict(re.findall(r"^#SBATCH --([a-z-]+)=(.+)$", written[name], re.MULTILINE))
        assert int(asked["nodes"]) * int(asked["ntasks-per-node"]) == server.deployment.devices_per_replica
        assert f'sbatch --nodelist="$H200_{server.parts[0].node}_ADDRESS,' in written["README.md"]
        port = said[said.index("--port") + 1]
        assert f"{server.url.rpartition(':')[0]}:{port}" == server.url
        assert server.url in written["ready.sh"]


def test_the_buffer_of_exchanged_experts_grows_as_cann_says(solved):
    """Published recipes: 600 MiB are enough for decode of DeepSeek-R1 with ep 32 and 40 requests a rank of tp 1."""
    path, settings = SCENARIOS / "deepseek_r1_910c.yaml", ()
    plan = solved(path, settings).plan
    model = handover.facts_of(load_scenario(path, settings), plan).models["r1"]
    assert (model.experts, model.experts_per_token, model.shared_experts, model.hidden) == (256, 8, 1, 7168)
    d = next(d for d in plan.deployments if d.role == "decode")
    some = d._replace(tp=1, ep=32, max_num_seqs=40, graph_capture_sizes=(), redundant_experts=0, speculative_tokens=1)
    assert 200 < exchange_buffer(some, model) <= 600
    by_hand = 2 * (8 * 80 * 32 * 14848 + 9 * 80 * 14336) / 2**20
    assert exchange_buffer(some, model) == math.ceil(by_hand)
    assert exchange_buffer(some._replace(max_num_seqs=1), model) == 200
