"""vLLM: a deployment as options of ``vllm serve``, and back."""

from collections.abc import Mapping, Sequence
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

ONLINE = MappingProxyType({"fp8": "fp8"})  # dynamic fp8 of a bf16 checkpoint
KV_DTYPES = MappingProxyType({"bf16": "bfloat16", "fp8": "fp8"})
_LINEAR = "gated_delta"
ROLES = MappingProxyType({"prefill": "kv_producer", "decode": "kv_consumer"})
_PASSES = MappingProxyType({"matmul_all_reduce_overlap": {"enable_sp": True, "fuse_gemm_comms": True}})
_SWITCHES = MappingProxyType({"dual_batch_overlap": "enable-dbo"})


def settings(d: Deployment, facts: Facts) -> Options:
    """Return the options that all replicas of a deployment share."""
    path, method = checkpoint(d, facts, ONLINE)
    quantised = {} if method is None else {"quantization": method}
    options = shared(d, facts, path) | quantised | _redundancy(d) | _overlaps(d)
    if d.role != "mixed":
        options["kv-transfer-config"] = {"kv_connector": "NixlConnector", "kv_role": ROLES[d.role]}
    return checked("vllm", "serve", options)


def shared(d: Deployment, facts: Facts, path: str, kv_dtypes: Mapping[str, str] = KV_DTYPES) -> dict[str, Any]:
    """Return the options that vLLM has on every platform."""
    engine = facts.engines[d.engine.name]
    options: dict[str, Any] = {
        "model": path,
        "served-model-name": [facts.models[d.model].repository],
        "host": "0.0.0.0",
        "dtype": "bfloat16",
        "tensor-parallel-size": d.tp,
        "pipeline-parallel-size": d.pp,
        "data-parallel-size": d.attention_dp,
        "max-model-len": d.max_model_len,
        "max-num-seqs": d.max_num_seqs,
        "max-num-batched-tokens": d.max_num_batched_tokens,
        "gpu-memory-utilization": memory_fraction(d, engine),
        "kv-cache-dtype": kv_dtypes[d.kv_precision],
    }
    options |= block(d, engine, "block-size")
    if facts.models[d.model].remote_code:
        options["trust-remote-code"] = True
    options |= _switch("enable-chunked-prefill", on=d.prefill_policy == "mixed_chunked")
    options |= _switch("enable-prefix-caching", on=_LINEAR not in d.attention.layers)
    if d.ep > 1:
        options["enable-expert-parallel"] = True
    if d.context_parallel > 1:
        options["decode-context-parallel-size"] = d.context_parallel
    if d.speculative_tokens:
        options["speculative-config"] = _drafts(d, facts)
    return options | _graphs(d)


def _switch(name: str, *, on: bool) -> dict[str, bool]:
    """Return a switch; a false value in a configuration file is passed over, so that "no" is an option of its own."""
    return {name if on else f"no-{name}": True}


def _drafts(d: Deployment, facts: Facts) -> dict[str, Any]:
    if facts.models[d.model].own_drafts:
        return {"method": "mtp", "num_speculative_tokens": d.speculative_tokens}
    return {"method": "draft_model", "model": draft_model(d.model), "num_speculative_tokens": d.speculative_tokens}


def _redundancy(d: Deployment) -> dict[str, Any]:
    if not d.redundant_experts:
        return {}
    return {"enable-eplb": True, "eplb-config": {"num_redundant_experts": d.redundant_experts}}


def _graphs(d: Deployment) -> dict[str, Any]:
    if d.graph_capture_sizes:
        return {"cudagraph-capture-sizes": list(d.graph_capture_sizes)}
    return {"compilation-config": {"cudagraph_mode": "NONE"}}


def _overlaps(d: Deployment) -> dict[str, Any]:
    """Return what turns on that the engine leaves off; passes join what the compiler is told otherwise."""
    found: dict[str, Any] = {_SWITCHES[name]: True for name in d.overlaps if name in _SWITCHES}
    passes = {key: on for name in d.overlaps for key, on in _PASSES.get(name, {}).items()}
    if passes:
        found["compilation-config"] = _graphs(d).get("compilation-config", {}) | {"pass_config": passes}
    return found


def part(server: Server, k: int, pair: Sequence[Deployment]) -> Options:
    """Return the options of a replica's part on one node; the first takes requests."""
    options: dict[str, Any] = {} if k else {"port": server.port}
    if len(server.parts) > 1:
        options |= {
            "nnodes": len(server.parts),
            "node-rank": k,
            "master-addr": f"${{{address_of(server.head)}}}",
            "master-port": server.rendezvous_port,
        }
        options |= (
            {"data-parallel-rpc-port": server.rendezvous_port + 1000} if server.deployment.attention_dp > 1 else {}
        )
        options |= {"headless": True} if k else {}
    return checked("vllm", "serve", options)


def environment(server: Server, k: int, facts: Facts) -> dict[str, str]:
    """Return the variables of a part: its own address, and where caches are asked for."""
    d = server.deployment
    address = f"${{{address_of(node_name(d.inventory, server.parts[k].node))}}}"
    found = {}
    if len(server.parts) > 1:
        found = {"VLLM_HOST_IP": address} | network_variables("NCCL_SOCKET_IFNAME")
    if d.role != "mixed":
        found |= {
            "VLLM_NIXL_SIDE_CHANNEL_HOST": address,
            "VLLM_NIXL_SIDE_CHANNEL_PORT": str(server.transfer_port),
        }
        if _LINEAR in d.attention.layers:  # its states are sent in this layout only
            found["VLLM_SSM_CONV_STATE_LAYOUT"] = "DS"
    return found


def read(options: Options, model: str, facts: Facts) -> dict[str, Any]:
    """Return the fields of a deployment that options say, by their names in the plan."""
    passes = options.get("compilation-config", {}).get("pass_config", {})
    on = [name for name, option in _SWITCHES.items() if options.get(option)]
    on += [name for name, wanted in _PASSES.items() if all(passes.get(key) for key in wanted)]
    method = options.get("quantization")
    return read_shared(options, model, facts, "vllm", KV_DTYPES) | {
        "weight_precision": weight_precision(options["model"], method, facts, model, ONLINE),
        "redundant_experts": options.get("eplb-config", {}).get("num_redundant_experts", 0),
        "overlaps": tuple(sorted(on)),
    }


def read_shared(
    options: Options, model: str, facts: Facts, engine: str, kv_dtypes: Mapping[str, str]
) -> dict[str, Any]:
    """Return the fields that ``shared`` writes."""
    tp, dp = options["tensor-parallel-size"], options["data-parallel-size"]
    connector = options.get("kv-transfer-config", {}).get("kv_role")
    return {
        "role": next((role for role, name in ROLES.items() if name == connector), "mixed"),
        "kv_precision": next(name for name, dtype in kv_dtypes.items() if dtype == options["kv-cache-dtype"]),
        "tp": tp,
        "pp": options["pipeline-parallel-size"],
        "attention_dp": dp,
        "ep": tp * dp if options.get("enable-expert-parallel") else 1,
        "context_parallel": options.get("decode-context-parallel-size", 1),
        "max_num_seqs": options["max-num-seqs"],
        "max_num_batched_tokens": options["max-num-batched-tokens"],
        "max_model_len": options["max-model-len"],
        "block_size": read_block(options, "block-size", facts.models[model], facts.engines[engine]),
        "prefill_policy": "mixed_chunked" if options.get("enable-chunked-prefill") else "mixed_whole",
        "speculative_tokens": options.get("speculative-config", {}).get("num_speculative_tokens", 0),
        "graph_capture_sizes": tuple(options.get("cudagraph-capture-sizes", ())),
    }


def route(target: Target) -> Route:
    """Return the router of a pair: each request visits a prefill replica, then a decode replica."""
    options = checked(
        "vllm-router",
        "route",
        {
            "vllm-pd-disaggregation": True, "kv-connector": "nixl", "policy": "power_of_two", "host": "0.0.0.0",
            "port": target.port, "prefill": [s.url for s in target.prefill], "decode": [s.url for s in target.decode],
            "prometheus-port": target.metrics_port,
        },
    )  # fmt: skip
    return installed("vllm-router", definition("vllm-router").version, ["vllm-router"], repeated(options))


def bench(load: Load) -> list[str]:
    """Return the benchmark that comes with vLLM."""
    how = (
        {"request-rate": round(load.rate, 4)}
        if load.rate
        else {"max-concurrency": load.clients, "num-warmups": load.clients}
    )
    options: Mapping[str, Any] = checked(
        "vllm",
        "bench",
        {
            "backend": "openai", "base-url": load.url, "endpoint": "/v1/completions", "model": load.model,
            **tokenizer(load), **({"trust-remote-code": True} if load.trusted else {}), "dataset-name": "random",
            "random-input-len": load.input_tokens, "random-output-len": load.output_tokens, "ignore-eos": True,
            "num-prompts": load.requests, **how, "percentile-metrics": "ttft,tpot,itl",
            "metric-percentiles": "10,50,90,99", "save-result": True, "save-detailed": True,
            "result-filename": load.result,
        },
    )  # fmt: skip
    return ["vllm", "bench", "serve", *flags(options)]


ENGINE = Engine(
    name="vllm",
    title="vLLM",
    program=("vllm", "serve"),
    config="vllm.yaml",
    images=MappingProxyType({"NVIDIA": "vllm/vllm-openai:v0.24.0", "AMD": "vllm/vllm-openai-rocm:v0.24.0"}),
    health="/health",
    settings=settings,
    part=part,
    environment=environment,
    read=read,
    route=route,
    bench=bench,
    online=ONLINE,
    block_option="block-size",
    kernel_blocks="16 (FlashAttention, Triton), 64 (FlashMLA), 32 or 64 (FlashInfer) or 128 (CUTLASS)",
)
