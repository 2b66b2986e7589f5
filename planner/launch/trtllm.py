"""TensorRT-LLM: a deployment as its options file and ``trtllm-serve``, and back.

With attention data parallelism its tensor_parallel_size counts all devices of a stage, and limits hold for each rank.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from planner import yaml_io
from planner.errors import InputError
from planner.launch import aiperf
from planner.launch.definition import Options, checked, flags, from_flags
from planner.launch.engine import Engine, Route, checkpoint, memory_fraction, weight_precision
from planner.launch.facts import Facts
from planner.launch.servers import Server, Target
from planner.plan import Deployment

VERSION = "1.3.0rc29"
_IMAGE = f"nvcr.io/nvidia/tensorrt-llm/release:{VERSION}"
_KV_DTYPES = MappingProxyType({"bf16": "bfloat16", "fp8": "fp8"})
_OVERLAP = "matmul_all_reduce_overlap"
_FUSED = "TRTLLM_GEMM_ALLREDUCE_FUSION_ENABLED"
_CONFIG = "trtllm.yaml"
_UPDATES = 2  # layers whose experts move in a step, as examples/wide_ep/ep_load_balancer has it; by default none do
_FILLED_IN = "import os, sys; sys.stdout.write(os.path.expandvars(open(sys.argv[1]).read()))"


def settings(d: Deployment, facts: Facts) -> Options:
    """Return the options file that all replicas of a deployment share.

    Raises:
        InputError: drafts come from a separate model.
    """
    group = d.tp * d.attention_dp
    if d.speculative_tokens and not facts.models[d.model].own_drafts:
        msg = f"{d.name}: drafts of a separate model are not written for TensorRT-LLM; solve again without them"
        raise InputError.single("", msg)
    options: dict[str, Any] = {
        "backend": "pytorch",
        "dtype": "bfloat16",
        "tensor_parallel_size": group,
        "pipeline_parallel_size": d.pp,
        "moe_expert_parallel_size": d.ep,
        "moe_tensor_parallel_size": group // d.ep,
        "enable_attention_dp": d.attention_dp > 1,
        "max_batch_size": d.max_num_seqs,
        "max_num_tokens": d.max_num_batched_tokens,
        "max_seq_len": d.max_model_len,
        "enable_chunked_prefill": d.prefill_policy == "mixed_chunked",
        "disable_overlap_scheduler": d.role == "prefill",  # context servers hand their caches over step by step
        "kv_cache_config": {
            "dtype": _KV_DTYPES[d.kv_precision],
            "tokens_per_block": d.block_size,
            "free_gpu_memory_fraction": memory_fraction(d, facts.engines["trtllm"]),
            "enable_block_reuse": True,
        },
    }
    if d.graph_capture_sizes:
        options["cuda_graph_config"] = {"enable_padding": True, "batch_sizes": list(d.graph_capture_sizes)}
    if d.speculative_tokens:
        options["speculative_config"] = {"decoding_type": "MTP", "num_nextn_predict_layers": d.speculative_tokens}
    if d.role != "mixed":
        options["cache_transceiver_config"] = {"backend": "NIXL"}
    if d.redundant_experts:
        slots = facts.models[d.model].experts + d.redundant_experts
        options["moe_config"] = {"load_balancer": {"num_slots": slots, "layer_updates_per_iter": _UPDATES}}
    return checked("trtllm", "serve", options)


def part(server: Server, k: int, pair: Sequence[Deployment]) -> Options:
    """Return the options of a replica's command."""
    return checked("trtllm", "start", {"host": "0.0.0.0", "port": server.port})


def _command(server: Server, words: Sequence[str], facts: Facts) -> list[str]:
    """Return the words of a part; the model goes first, it is no option."""
    path, _ = checkpoint(server.deployment, facts, {})
    model = facts.models[server.deployment.model]
    more = {"served_model_name": model.repository} | ({"trust_remote_code": True} if model.remote_code else {})
    return [path, "--config", f"/launch/{_CONFIG}", *flags(checked("trtllm", "start", more)), *words]


def _said(words: Sequence[str]) -> Options:
    return {"model": words[0], **from_flags("trtllm", "start", words[1:])}


def environment(server: Server, k: int, facts: Facts) -> Mapping[str, str]:
    """Return the variables of a part: what has no option."""
    return {_FUSED: "1"} if _OVERLAP in server.deployment.overlaps else {}


def read(options: Options, model: str, facts: Facts) -> dict[str, Any]:
    """Return the fields of a deployment that options say, by their names in the plan.

    Roles are alike but for what hands caches over: a context server does not overlap its steps.
    """
    group, cache = options["tensor_parallel_size"], options["kv_cache_config"]
    dp = group if options["enable_attention_dp"] else 1
    apart = "cache_transceiver_config" in options
    slots = options.get("moe_config", {}).get("load_balancer", {}).get("num_slots")
    return {
        "role": ("prefill" if options["disable_overlap_scheduler"] else "decode") if apart else "mixed",
        "weight_precision": weight_precision(options["model"], None, facts, model, {}),
        "kv_precision": next(name for name, dtype in _KV_DTYPES.items() if dtype == cache["dtype"]),
        "tp": group // dp,
        "pp": options["pipeline_parallel_size"],
        "attention_dp": dp,
        "ep": options["moe_expert_parallel_size"],
        "context_parallel": 1,
        "redundant_experts": slots - facts.models[model].experts if slots else 0,
        "max_num_seqs": options["max_batch_size"],
        "max_num_batched_tokens": options["max_num_tokens"],
        "max_model_len": options["max_seq_len"],
        "block_size": cache["tokens_per_block"],
        "prefill_policy": "mixed_chunked" if options["enable_chunked_prefill"] else "mixed_whole",
        "speculative_tokens": options.get("speculative_config", {}).get("num_nextn_predict_layers", 0),
        "graph_capture_sizes": tuple(options.get("cuda_graph_config", {}).get("batch_sizes", ())),
        "overlaps": (_OVERLAP,) if _FUSED in options["environment"] else (),
    }


def route(target: Target) -> Route:
    """Return the server before a pair, with its configuration; addresses in it are filled in when it starts."""
    sides = {"context_servers": target.prefill, "generation_servers": target.decode}
    config: dict[str, Any] = {"hostname": "0.0.0.0", "port": target.port, "backend": "pytorch"}
    for side, found in sides.items():
        config[side] = {"num_instances": len(found), "urls": [server.url.removeprefix("http://") for server in found]}
    name = f"{target.name}.yaml"
    start = f"python3 -c '{_FILLED_IN}' /front/{name} > /tmp/{name} && exec trtllm-serve disaggregated -c /tmp/{name}"
    return Route(_IMAGE, ("sh", "-c", start), {name: yaml_io.dump(config)})


ENGINE = Engine(
    name="trtllm",
    title="TensorRT-LLM",
    program=("trtllm-serve",),
    config=_CONFIG,
    images=MappingProxyType({"NVIDIA": _IMAGE}),
    health="/health",
    settings=settings,
    part=part,
    environment=environment,
    read=read,
    route=route,
    bench=aiperf.bench,
    launcher=("trtllm-llmapi-launch",),  # docs/source/commands/trtllm-serve, Multi-node Serving with Slurm
    bench_image=aiperf.IMAGE,
    result=aiperf.RESULT,
    command=_command,
    said=_said,
)
