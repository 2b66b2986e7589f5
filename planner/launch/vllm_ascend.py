"""vLLM with the vllm-ascend plugin: what differs from vLLM, and back."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from planner.errors import InputError
from planner.launch import vllm
from planner.launch.definition import Options, checked, flags
from planner.launch.engine import Engine, Route, checkpoint, weight_precision
from planner.launch.facts import Facts
from planner.launch.servers import Server, Target, address_of, node_name
from planner.plan import Deployment

_KV_DTYPES = MappingProxyType({"bf16": "auto"})
_CONNECTOR = "MooncakeConnectorV1"
_COMPILATION = "ascend_compilation_config"
# Where each fusion is turned on in --additional-config.
_SWITCHES = MappingProxyType({
    "fused_norm_all_reduce": (_COMPILATION, {"fuse_allreduce_rms": True}),
    "matmul_all_reduce_overlap": ("enable_matmul_allreduce", True),
    "dispatch_combine_fusion": ("enable_fused_mc2", 1),
    "shared_expert_overlap": ("multistream_overlap_shared_expert", True),
})  # fmt: skip
_IMAGE = "quay.io/ascend/vllm-ascend:v0.24.0rc1"
_PROXY = "/vllm-workspace/vllm-ascend/examples/disaggregated_prefill_v1/load_balance_proxy_server_example.py"


def settings(d: Deployment, facts: Facts) -> Options:
    """Return the options that all replicas of a deployment share."""
    path, _ = checkpoint(d, facts, {})
    options = vllm.shared(d, facts, path, _KV_DTYPES)
    if d.weight_precision != "bf16" and path != facts.models[d.model].repository:
        options["quantization"] = "ascend"
    if d.role == "decode":  # a step of decodes is captured whole
        options["compilation-config"] = {"cudagraph_mode": "FULL_DECODE_ONLY"}
    more = dict(_SWITCHES[name] for name in d.overlaps)
    if d.redundant_experts:
        more["eplb_config"] = {"dynamic_eplb": True, "num_redundant_experts": d.redundant_experts}
    return checked("vllm-ascend", "serve", options | ({"additional-config": more} if more else {}))


def part(server: Server, k: int, pair: Sequence[Deployment]) -> Options:
    """Return the options of a replica's part on one node: as vLLM has them, and where it hands caches over."""
    options = dict(vllm.part(server, k, pair))
    d = server.deployment
    if d.role != "mixed":
        options["kv-transfer-config"] = {
            "kv_connector": _CONNECTOR,
            "kv_role": vllm.ROLES[d.role],
            "kv_port": server.transfer_port,
            "engine_id": server.name,
            "kv_connector_extra_config": {role: _shape(role, pair) for role in ("prefill", "decode")},
        }
    return checked("vllm-ascend", "serve", options)


def _shape(role: str, pair: Sequence[Deployment]) -> dict[str, int]:
    """Return the degrees of one side of a pair, which the connector takes once.

    Raises:
        InputError: replicas of that side differ.
    """
    shapes = {(d.attention_dp, d.tp, d.pp) for d in pair if d.role == role}
    if len(shapes) != 1:
        names = ", ".join(d.name for d in pair if d.role == role)
        msg = f"{_CONNECTOR} takes one shape of {role} replicas in a pair, the plan has several: {names}"
        raise InputError.single("", f"{msg}; solve again with fewer degrees in search, like 'search.pp=[1]'")
    dp, tp, pp = next(iter(shapes))
    return {"dp_size": dp, "tp_size": tp} | ({"pp_size": pp} if role == "prefill" else {})


def environment(server: Server, k: int) -> dict[str, str]:
    """Return the variables of a part: its address for collectives, and what its documentation sets everywhere."""
    d = server.deployment
    address = f"${{{address_of(node_name(d.inventory, server.parts[k].node))}}}"
    found = {"PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True", "OMP_PROC_BIND": "false", "OMP_NUM_THREADS": "10"}
    if len(server.parts) > 1 or d.role != "mixed":
        found |= {"VLLM_HOST_IP": address, "HCCL_IF_IP": address}
        found |= dict.fromkeys(("HCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME"), "${NETWORK_INTERFACE}")
    return found | ({"DYNAMIC_EPLB": "true"} if d.redundant_experts else {})


def read(options: Options, model: str, facts: Facts) -> dict[str, Any]:
    """Return the fields of a deployment that options say, by their names in the plan."""
    more = options.get("additional-config", {})
    return vllm.read_shared(options, facts.engines["vllm-ascend"], _KV_DTYPES) | {
        "weight_precision": weight_precision(options["model"], None, facts, model, {}),
        "redundant_experts": more.get("eplb_config", {}).get("num_redundant_experts", 0),
        "overlaps": tuple(sorted(name for name, (key, value) in _SWITCHES.items() if more.get(key) == value)),
    }


def route(target: Target) -> Route:
    """Return the proxy of a pair that comes with the plugin."""
    sides = {}
    for side, found in (("prefiller", target.prefill), ("decoder", target.decode)):
        sides[f"{side}-hosts"] = [f"${{{address_of(server.head)}}}" for server in found]
        sides[f"{side}-ports"] = [server.port for server in found]  # type: ignore[misc]
    options = checked("vllm-ascend", "route", {"host": "0.0.0.0", "port": target.port, **sides})
    return Route(_IMAGE, ("python3", _PROXY, *flags(options)))


ENGINE = Engine(
    name="vllm-ascend",
    title="vLLM-Ascend",
    program=("vllm", "serve"),
    config="vllm.yaml",
    images=MappingProxyType({"Huawei": _IMAGE} | dict.fromkeys(("ascend-910c", "ascend-910c-a3"), f"{_IMAGE}-a3")),
    health="/health",
    settings=settings,
    part=part,
    environment=environment,
    read=read,
    route=route,
    bench=vllm.bench,
)
