"""vLLM with the vllm-ascend plugin: what differs from vLLM, and back."""

import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from planner.errors import InputError
from planner.launch import vllm
from planner.launch.definition import Options, checked, flags
from planner.launch.engine import Engine, Load, Route, checkpoint, network_variables, weight_precision
from planner.launch.facts import Facts, ModelFacts
from planner.launch.servers import Server, Target, address_of, node_name
from planner.launch.vendor import image
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
# What the image's own shells read at their start (Dockerfile.a3 at that tag): without it no library of CANN is found.
_SHELL = (
    "source /usr/local/Ascend/ascend-toolkit/set_env.sh && source /usr/local/Ascend/nnal/atb/set_env.sh && "
    "export LD_LIBRARY_PATH=$LD_LIBRARY_PATH:/usr/local/lib && exec "
)
# Its other image, for 310P, computes in fp16, not in bf16; 910A is not served, and no image of the release is for 950:
# docs/source/installation.md and .github/workflows/schedule_image_build_and_push.yaml at that tag.
_IMAGES = MappingProxyType({"ascend-910b": _IMAGE, "ascend-910c": f"{_IMAGE}-a3"})
_BUFFER = 200  # MiB of HCCL's buffers by default
_EXCHANGED = 512  # tokens of a tensor-parallel rank that are exchanged at once, at most
_PROXY = "/vllm-workspace/vllm-ascend/examples/disaggregated_prefill_v1/load_balance_proxy_server_example.py"


def settings(d: Deployment, facts: Facts) -> Options:
    """Return the options that all replicas of a deployment share."""
    path, _ = checkpoint(d, facts, {})
    options = vllm.shared(d, facts, path, _KV_DTYPES) | {"block-size": d.block_size}  # MLA has no other block here
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
            "kv_connector_extra_config": _shapes(pair),
        }
    return checked("vllm-ascend", "serve", options)


def _shapes(pair: Sequence[Deployment]) -> dict[str, dict[str, int]]:
    """Return the degrees of both sides of a pair.

    Raises:
        InputError: replicas of a side differ, or prefill has a smaller tp (refused by MooncakeConnectorWorker,
            vllm_ascend/distributed/kv_transfer/kv_p2p/mooncake_connector.py).
    """
    shapes = {role: _shape(role, pair) for role in ("prefill", "decode")}
    prefill, decode = (shapes[role]["tp_size"] for role in ("prefill", "decode"))
    if prefill < decode:
        msg = f"{_CONNECTOR} takes no prefill of tp {prefill} for a decode of tp {decode}, it must be at least as much"
        raise InputError.single(
            "", f"{pair[0].pair}: {msg}; solve again with fewer degrees, like 'search.tp=[{decode}]'"
        )
    return shapes


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


def exchange_buffer(d: Deployment, model: ModelFacts) -> int:
    """Return the buffer that dispatch and combine of experts take [MiB], at least HCCL's own default.

    A rank takes in as many tokens for each of its experts as every rank may send, each as wide as two bytes a value and
    a head of 64 bytes, in lines of 512; and once more to answer.

    Source: aclnnMoeDistributeDispatchV2 in CANN's reference of operators; tokens at once: set_mc2_tokens_capacity in
    vllm_ascend/ascend_forward_context.py.
    """
    steps = max(d.graph_capture_sizes, default=d.max_num_seqs * (1 + d.speculative_tokens))
    tokens = min(-(-steps // d.tp), _EXCHANGED)
    here = -(-(model.experts + d.redundant_experts) // d.ep)

    def lines(size: int) -> int:
        return -(-size // 512) * 512

    row = 2 * model.hidden
    sent = here * tokens * d.ep * lines(-(-row // 32) * 32 + 64)
    returned = (model.experts_per_token + model.shared_experts) * tokens * lines(row)
    return max(_BUFFER, math.ceil(2 * (sent + returned) / 2**20))


def environment(server: Server, k: int, facts: Facts) -> dict[str, str]:
    """Return the variables of a part: its address for collectives, and what its documentation sets everywhere."""
    d = server.deployment
    address = f"${{{address_of(node_name(d.inventory, server.parts[k].node))}}}"
    found = {"PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True", "OMP_PROC_BIND": "false", "OMP_NUM_THREADS": "10"}
    found |= {"HCCL_OP_EXPANSION_MODE": "AIV", "TASK_QUEUE_ENABLE": "1"}
    if len(server.parts) > 1 or d.role != "mixed":
        found |= {"VLLM_HOST_IP": address, "HCCL_IF_IP": address}
        found |= network_variables("HCCL_SOCKET_IFNAME", "TP_SOCKET_IFNAME")
    if d.ep > 1:
        found["HCCL_BUFFSIZE"] = str(exchange_buffer(d, facts.models[d.model]))
    return found | ({"DYNAMIC_EPLB": "true"} if d.redundant_experts else {})


def read(options: Options, model: str, facts: Facts) -> dict[str, Any]:
    """Return the fields of a deployment that options say, by their names in the plan."""
    more = options.get("additional-config", {})
    return vllm.read_shared(options, model, facts, "vllm-ascend", _KV_DTYPES) | {
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
    return Route(image(ENGINE, target.prefill[0].deployment.hardware, "Huawei"), ("python3", _PROXY, *flags(options)))


def bench(load: Load) -> list[str]:
    """Return the benchmark that comes with vLLM, in a shell that finds the libraries of CANN."""
    program, *words = vllm.bench(load)
    return ["bash", "-c", f'{_SHELL}{program} "$@"', program, *words]


ENGINE = Engine(
    name="vllm-ascend",
    title="vLLM-Ascend",
    program=("bash", "-c", f'{_SHELL}vllm serve "$@"'.replace("$", "$$"), "vllm"),  # Compose reads $ as its own
    config="vllm.yaml",
    images=_IMAGES,
    health="/health",
    settings=settings,
    part=part,
    environment=environment,
    read=read,
    route=route,
    bench=bench,
)
