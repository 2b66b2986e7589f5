"""MindIE: a deployment as its config.json, and back.

The file lies in the server's own folder, so each container copies it there and gives it its ports (start.sh).
"""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from planner.errors import InputError
from planner.launch import aiperf, mindie_nodes
from planner.launch.definition import Options, checked
from planner.launch.engine import Beside, Engine, Route, checkpoint, memory_fraction, weight_precision
from planner.launch.facts import EngineFacts, Facts
from planner.launch.servers import Server, Target, address_of, slug
from planner.plan import Deployment

_CONFIG = "mindie.json"
_PORT, _MANAGEMENT, _METRICS = 1025, 1026, 1027  # what the file has until a replica starts
_PREFILLS = 50  # requests in a step of prompts, as by default
_IMAGE = "mindie:3.0.0-800I-{}-py311-openeuler24.03-lts"
_START = f"""#!/bin/bash
# {_CONFIG} with the ports of one replica: requests, management, metrics
set -e
folder() {{ python3 -c "import importlib.util as i; print(*i.find_spec('$1').submodule_search_locations)"; }}
source /usr/local/Ascend/ascend-toolkit/set_env.sh
source /usr/local/Ascend/nnal/atb/set_env.sh
home=$(folder mindie_llm)
source "$home/set_env.sh"
export ATB_SPEED_HOME_PATH=$(folder atb_llm)
export LD_LIBRARY_PATH=$ATB_SPEED_HOME_PATH/lib:$LD_LIBRARY_PATH
sed -e 's/"port": {_PORT}/"port": '"$1"/ -e 's/"managementPort": {_MANAGEMENT}/"managementPort": '"$2"/ \\
  -e 's/"metricsPort": {_METRICS}/"metricsPort": '"$3"/ /launch/{_CONFIG} > "$home/conf/config.json"
chmod 640 "$home/conf/config.json"
"""
_EXEC = "exec mindie_llm_server\n"


def settings(d: Deployment, facts: Facts) -> Options:
    """Return the content of config.json but for ports.

    Raises:
        InputError: prefill and decode apart, redundant experts, stages, overlaps.
    """
    for fault in _faults(d):
        raise InputError.single("", f"{d.name}: {fault}")
    path, _ = checkpoint(d, facts, {})
    mixed = d.prefill_policy == "mixed_chunked"
    schedule: dict[str, Any] = {
        "templateType": "Mix" if mixed else "Standard",
        "templateName": "Standard_LLM",
        "cacheBlockSize": d.block_size,
        "maxPrefillBatchSize": min(_PREFILLS, d.max_num_seqs),
        "maxPrefillTokens": d.max_model_len if mixed else d.max_num_batched_tokens,  # at least the longest prompt
        "prefillTimeMsPerReq": 150,
        "prefillPolicyType": 0,
        "decodeTimeMsPerReq": 50,
        "decodePolicyType": 0,
        "maxBatchSize": d.max_num_seqs,
        "maxIterTimes": d.max_model_len,
        "maxPreemptCount": 0,
        "supportSelectBatch": False,
        "maxQueueDelayMicroseconds": 5000,
    }
    longest = d.max_model_len - 1 if mixed else min(d.max_model_len - 1, d.max_num_batched_tokens)
    options = {
        "Version": "1.0.0",
        "ServerConfig": {
            "ipAddress": "127.0.0.1",  # MIES_CONTAINER_IP goes before it
            "port": _PORT,
            "managementPort": _MANAGEMENT,
            "metricsPort": _METRICS,
            "allowAllZeroIpListening": False,
            "maxLinkNum": 1000,
            "httpsEnabled": False,
            "inferMode": "standard",
            "openAiSupport": "vllm",
            "tokenTimeout": 3600,
            "e2eTimeout": 3600,
            "distDPServerEnabled": False,
        },
        "BackendConfig": {
            "backendName": "mindieservice_llm_engine",
            "modelInstanceNumber": 1,
            "npuDeviceIds": [list(range(_on_a_node(d, facts)))],
            "tokenizerProcessNumber": 8,
            **mindie_nodes.backend(several=_on_a_node(d, facts) < d.devices_per_replica),
            "ModelDeployConfig": {
                "maxSeqLen": d.max_model_len,
                "maxInputTokenLen": longest,
                "truncation": 0,
                "ModelConfig": [_model(d, facts, path)],
            },
            "ScheduleConfig": schedule | ({"prefillChunkSize": d.max_num_batched_tokens} if mixed else {}),
        },
        "LogConfig": {"dynamicLogLevel": "", "dynamicLogLevelValidHours": 2, "dynamicLogLevelValidTime": ""},
    }
    return checked("mindie", "serve", options)


def _on_a_node(d: Deployment, facts: Facts) -> int:
    """Return the devices of a replica on each of its nodes: the server counts those of its own node alone."""
    return min(d.devices_per_replica, facts.inventory[d.inventory].stock.devices_per_node)


def _faults(d: Deployment) -> Sequence[str]:
    found = []
    if d.role != "mixed":
        found.append(
            "prefill and decode apart take MindIE's coordinator on Kubernetes, which is not written; solve again with "
            "--set 'search.roles=[mixed]', or for vLLM on Ascend with --set 'engine={name: vllm-ascend}'"
        )
    if d.redundant_experts:
        found.append("redundant experts take a table of measured expert loads, which only a running model gives")
    if d.pp > 1 or d.overlaps:
        found.append("pipeline stages and overlaps have no place in its configuration file")
    return found


def _model(d: Deployment, facts: Facts, path: str) -> dict[str, Any]:
    plugins = []
    if d.prefill_policy == "mixed_chunked":
        plugins = [("plugin_type", "splitfuse")]
    if d.speculative_tokens:
        plugins = [("plugin_type", "mtp"), ("num_speculative_tokens", d.speculative_tokens)]  # type: ignore[list-item]
    model: dict[str, Any] = {
        "modelInstanceType": "Standard",
        "modelName": _served(facts.models[d.model].repository),
        "modelWeightPath": path if path.startswith("/") else f"/models/{path.rpartition('/')[2]}",
        "worldSize": _on_a_node(d, facts),
        "cpuMemSize": 0,
        "npuMemSize": -1,
        "backendType": "atb",
        "trustRemoteCode": facts.models[d.model].remote_code,
        "tp": d.tp,
        "dp": d.attention_dp,
        "sp": d.context_parallel,
    }
    if facts.models[d.model].experts:
        model |= {"moe_tp": d.moe_tp, "moe_ep": d.ep}
    return model | ({"plugin_params": json.dumps(dict(plugins))} if plugins else {})


def _served(repository: str) -> str:
    """Return what requests call a model, whose name takes no slash."""
    return repository.rpartition("/")[2]


def part(server: Server, k: int, pair: Sequence[Deployment]) -> Options:
    """Return no options: the server takes none."""
    return {}


def _command(server: Server, words: Sequence[str], facts: Facts) -> list[str]:
    ports = [str(server.port), str(server.port + 1000), str(server.port + 2000)]
    return ["/launch/start.sh", *ports, *(mindie_nodes.words(server) if len(server.parts) > 1 else [])]


def _said(words: Sequence[str]) -> Options:
    return {"port": int(words[1]), "nodes": mindie_nodes.count(words[4:])}


def _beside(placed: Sequence[Server], facts: Facts) -> Beside:
    """Return how each replica is started, and what those of several nodes need besides."""
    more = mindie_nodes.beside(placed, facts)
    starts = {slug(s.deployment.name): mindie_nodes.START if len(s.parts) > 1 else "" for s in placed}
    scripts = {f"{name}/start.sh": f"{_START}{meeting}{_EXEC}" for name, meeting in starts.items()}
    return more._replace(files={**scripts, **more.files})


def environment(server: Server, k: int, facts: Facts) -> Mapping[str, str]:
    """Return the variables of a part: its own address, its share of memory, and how it finds the other parts."""
    d = server.deployment
    share = memory_fraction(d, EngineFacts("total", 0.0, d.block_size))
    address = f"${{{address_of(server.nodes[k])}}}"
    found = {
        "MIES_CONTAINER_IP": address,
        "MIES_CONTAINER_MANAGEMENT_IP": address,  # whose port answers health checks
        "NPU_MEMORY_FRACTION": f"{share:g}",
        "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True",
        "ATB_WORKSPACE_MEM_ALLOC_ALG_TYPE": "3",
    }
    return found | (mindie_nodes.environment(server, facts) if len(server.parts) > 1 else {})


def read(options: Options, model: str, facts: Facts) -> dict[str, Any]:
    """Return the fields of a deployment that the file says, by their names in the plan."""
    backend = options["BackendConfig"]
    (said,), schedule = backend["ModelDeployConfig"]["ModelConfig"], backend["ScheduleConfig"]
    plugins = json.loads(said.get("plugin_params", "{}"))
    nodes = options["nodes"] if backend["multiNodesInferEnabled"] else 1
    published = facts.models[model]
    weights = said["modelWeightPath"]
    own = weights in (published.repository, f"/models/{published.repository.rpartition('/')[2]}")
    return {
        "role": "mixed",
        "weight_precision": weight_precision(published.repository if own else weights, None, facts, model, {}),
        "kv_precision": "bf16",
        "tp": said["tp"],
        "pp": said["worldSize"] * nodes // (said["tp"] * said["dp"]),
        "attention_dp": said["dp"],
        "ep": said.get("moe_ep", 1),
        "context_parallel": said["sp"],
        "redundant_experts": 0,
        "max_num_seqs": schedule["maxBatchSize"],
        "max_num_batched_tokens": schedule.get("prefillChunkSize", schedule["maxPrefillTokens"]),
        "max_model_len": backend["ModelDeployConfig"]["maxSeqLen"],
        "block_size": schedule["cacheBlockSize"],
        "prefill_policy": "mixed_chunked" if schedule["templateType"] == "Mix" else "separate_whole",
        "speculative_tokens": plugins.get("num_speculative_tokens", 0),
        "overlaps": (),
    }


def route(target: Target) -> Route:
    """Refuse: there are no pairs (see ``settings``)."""
    raise InputError.single("", f"{target.name}: MindIE's coordinator is not written")


ENGINE = Engine(
    name="mindie",
    title="MindIE",
    program=("bash",),
    config=_CONFIG,
    images=MappingProxyType({"ascend-910b": _IMAGE.format("A2"), "ascend-910c": _IMAGE.format("A3")}),
    health="/v2/health/ready",
    settings=settings,
    part=part,
    environment=environment,
    read=read,
    route=route,
    bench=aiperf.bench,
    bench_image=aiperf.IMAGE,
    result=aiperf.RESULT,
    command=_command,
    said=_said,
    beside=_beside,
    health_offset=1000,
    served=_served,
    shared_memory=MappingProxyType({"shm_size": "16g"}),  # its own: what a stopped server left there stops the next
)  # fmt: skip
