"""SGLang: a deployment as options of its server, and back.

Its tp counts all devices of a stage, attention ranks times the tp of each; its limits hold for all ranks together.
"""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from planner.launch.definition import Options, checked, definition, flags, repeated
from planner.launch.engine import (
    Engine,
    Load,
    Route,
    block,
    checkpoint,
    draft_model,
    installed,
    memory_fraction,
    network_variables,
    read_block,
    tokenizer,
    weight_precision,
)
from planner.launch.facts import Facts
from planner.launch.servers import Server, Target, address_of, node_name
from planner.plan import Deployment

_ONLINE = MappingProxyType({"fp8": "fp8"})
_KV_DTYPES = MappingProxyType({"bf16": "bf16", "fp8": "fp8_e4m3"})
_SWITCHES = MappingProxyType({"dual_batch_overlap": ("enable-two-batch-overlap", True),
                              "dispatch_combine_fusion": ("moe-a2a-backend", "megamoe")})  # fmt: skip
_WHOLE = -1  # a chunk size that cuts no prompt


def settings(d: Deployment, facts: Facts) -> Options:
    """Return the options that all replicas of a deployment share."""
    path, method = checkpoint(d, facts, _ONLINE)
    engine = facts.engines["sglang"]
    options: dict[str, Any] = {
        "model-path": path,
        "served-model-name": facts.models[d.model].repository,
        "host": "0.0.0.0",
        "dtype": "bfloat16",
        "tp-size": d.tp * d.attention_dp,
        "pp-size": d.pp,
        "attn-dp-size": d.attention_dp,
        "ep-size": d.ep,
        "context-length": d.max_model_len,
        "max-running-requests": d.max_num_seqs * d.attention_dp,
        "mem-fraction-static": memory_fraction(d, engine),
        "kv-cache-dtype": _KV_DTYPES[d.kv_precision],
        "enable-metrics": True,
    } | _chunks(d)
    options |= block(d, engine, "page-size")
    if facts.models[d.model].remote_code:
        options["trust-remote-code"] = True
    if method is not None:
        options["quantization"] = method
    if d.context_parallel > 1:
        options["dcp-size"] = d.context_parallel
    if d.redundant_experts:
        options |= {"enable-eplb": True, "ep-num-redundant-experts": d.redundant_experts}
    if d.role != "mixed":
        options |= {"disaggregation-mode": d.role, "disaggregation-transfer-backend": "mooncake"}
    options |= {"cuda-graph-bs-decode": list(d.graph_capture_sizes)} if d.graph_capture_sizes else {}
    options |= {"disable-decode-cuda-graph": True} if not d.graph_capture_sizes else {}
    options |= dict(_SWITCHES[name] for name in d.overlaps)
    return checked("sglang", "serve", options | _drafts(d, facts))


def with_dp_size(options: Options) -> Options:
    """Return options as releases before 0.5.22 have them, where attention ranks are asked for by --dp-size."""
    dp = options["attn-dp-size"]
    rest = {name: value for name, value in options.items() if name != "attn-dp-size"}
    return rest | ({"dp-size": dp, "enable-dp-attention": True} if dp > 1 else {})


def _chunks(d: Deployment) -> dict[str, Any]:
    """Return how prompts are cut; one that is not may fill a step up to the limit."""
    tokens = d.max_num_batched_tokens * d.attention_dp
    if d.prefill_policy.endswith("whole"):
        return {"chunked-prefill-size": _WHOLE, "max-prefill-tokens": tokens}
    mixed = {"enable-mixed-chunk": True} if d.prefill_policy == "mixed_chunked" else {}
    return {"chunked-prefill-size": tokens, "max-prefill-tokens": tokens} | mixed


def _drafts(d: Deployment, facts: Facts) -> dict[str, Any]:
    """Return the options of drafts in a row: none beside another at a step."""
    if not d.speculative_tokens:
        return {}
    own = facts.models[d.model].own_drafts
    named = {} if own else {"speculative-draft-model-path": draft_model(d.model)}
    return {
        "speculative-algorithm": "EAGLE" if own else "STANDALONE",
        "speculative-num-steps": d.speculative_tokens,
        "speculative-eagle-topk": 1,
        "speculative-num-draft-tokens": d.speculative_tokens + 1,
    } | named


def part(server: Server, k: int, pair: Sequence[Deployment]) -> Options:
    """Return the options of a replica's part on one node; the first takes requests."""
    options: dict[str, Any] = {"port": server.port}
    if server.deployment.role == "prefill":
        options["disaggregation-bootstrap-port"] = server.transfer_port
    if len(server.parts) > 1:
        meet = f"${{{address_of(server.head)}}}:{server.rendezvous_port}"
        options |= {"nnodes": len(server.parts), "node-rank": k, "dist-init-addr": meet}
    return checked("sglang", "serve", options)


def environment(server: Server, k: int, facts: Facts) -> dict[str, str]:
    """Return the variables of a part: where others reach it, if any do."""
    d = server.deployment
    if len(server.parts) == 1 and d.role == "mixed":
        return {}
    found = {"HOST_IP": f"${{{address_of(node_name(d.inventory, server.parts[k].node))}}}"}
    return found | (network_variables("NCCL_SOCKET_IFNAME") if len(server.parts) > 1 else {})


def read(options: Options, model: str, facts: Facts) -> dict[str, Any]:
    """Return the fields of a deployment that options say, by their names in the plan."""
    dp, chunk = options.get("attn-dp-size", options.get("dp-size", 1)), options["chunked-prefill-size"]
    policy = "separate_whole" if chunk == _WHOLE else "separate_chunked"
    role = options.get("disaggregation-mode", "mixed")
    method = options.get("quantization")
    return {
        "role": role,
        "weight_precision": weight_precision(options["model-path"], method, facts, model, _ONLINE),
        "kv_precision": next(name for name, dtype in _KV_DTYPES.items() if dtype == options["kv-cache-dtype"]),
        "tp": options["tp-size"] // dp,
        "pp": options["pp-size"],
        "attention_dp": dp,
        "ep": options["ep-size"],
        "context_parallel": options.get("dcp-size", 1),
        "redundant_experts": options.get("ep-num-redundant-experts", 0),
        "max_num_seqs": options["max-running-requests"] // dp,
        "max_num_batched_tokens": options["max-prefill-tokens"] // dp,
        "max_model_len": options["context-length"],
        "block_size": read_block(options, "page-size", facts.models[model], facts.engines["sglang"]),
        "prefill_policy": "mixed_chunked" if options.get("enable-mixed-chunk") else policy,
        "speculative_tokens": options.get("speculative-num-steps", 0),
        "graph_capture_sizes": tuple(options.get("cuda-graph-bs-decode", ())),
        "overlaps": tuple(sorted(name for name, (key, value) in _SWITCHES.items() if options.get(key) == value)),
    }


def route(target: Target) -> Route:
    """Return the router of a pair: it hands each request to a prefill and a decode replica at once."""
    options = checked(
        "sglang-router",
        "route",
        {
            "pd-disaggregation": True, "policy": "power_of_two", "host": "0.0.0.0", "port": target.port,
            "prefill": [f"{s.url} {s.transfer_port}" for s in target.prefill],
            "decode": [s.url for s in target.decode], "prometheus-port": target.metrics_port,
        },
    )  # fmt: skip
    program = ["python3", "-m", "sglang_router.launch_router"]
    return installed("sglang-router", definition("sglang-router").version, program, repeated(options))


def bench(load: Load) -> list[str]:
    """Return the benchmark that comes with SGLang; its prompts are token numbers, others it would have to download."""
    how = (
        {"request-rate": round(load.rate, 4)}
        if load.rate
        else {"max-concurrency": load.clients, "warmup-requests": load.clients}
    )
    options = checked(
        "sglang",
        "bench",
        {
            "backend": "sglang-oai", "base-url": load.url, "model": load.model, "dataset-name": "random-ids",
            "random-input-len": load.input_tokens, "random-output-len": load.output_tokens, "random-range-ratio": 1.0,
            "num-prompts": load.requests, **how, "output-file": load.result, **tokenizer(load),
        },
    )  # fmt: skip
    return ["python3", "-m", "sglang.benchmark.serving", *flags(options)]


ENGINE = Engine(
    name="sglang",
    title="SGLang",
    program=("python3", "-m", "sglang.launch_server"),
    config="sglang.yaml",
    images=MappingProxyType({"NVIDIA": "lmsysorg/sglang:v0.5.23"}),
    health="/health",
    settings=settings,
    part=part,
    environment=environment,
    read=read,
    route=route,
    bench=bench,
    result="{name}.jsonl",
    online=_ONLINE,
    block_option="page-size",
    kernel_blocks="64 (FlashMLA), 32 or 64 (TensorRT-LLM) or what is set, else 1",
)
