"""Kubernetes objects for NVIDIA Dynamo: a graph for each way through the plan, and what splits requests over them."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from planner import yaml_io
from planner.errors import InputError
from planner.launch import aiperf, sglang, trtllm, vllm
from planner.launch.benchmark import PLAN, PREDICTED, figures, load_of
from planner.launch.definition import Options, checked, flags, from_flags
from planner.launch.engine import Engine, checkpoint, configured
from planner.launch.facts import Facts
from planner.launch.found import Found
from planner.launch.front import FRONT_IMAGE, front_lines
from planner.launch.servers import Server, Target, servers, slug, targets
from planner.plan import Deployment, Plan

API = "nvidia.com/v1beta1"
INVENTORY = "planner/inventory"  # a label of nodes: which inventory of the plan they are
_TOKEN = "hf-token-secret"
_MODELS = "/models"
_CACHE = f"{_MODELS}/huggingface"  # of what engines download
_FRONT_PORT, _SYSTEM_PORT = 8000, 9090
_TYPES = MappingProxyType({"mixed": "worker", "prefill": "prefill", "decode": "decode"})
_SERVER_ONLY = ("host", "port")  # of the engines' own servers, which Dynamo replaces


class Backend(NamedTuple):
    """A worker of Dynamo: the engine whose options it takes, the runtime image, and the definitions of what is in it.

    ``definition`` is the engine's, ``worker`` that of the options which Dynamo adds.
    """

    engine: Engine
    image: str
    definition: str
    worker: str


BACKENDS: Mapping[str, Backend] = MappingProxyType({
    "vllm": Backend(vllm.ENGINE, "nvcr.io/nvidia/ai-dynamo/vllm-runtime:1.3.1", "vllm-0.23.0", "dynamo-1.3.1"),
    "sglang": Backend(sglang.ENGINE, "nvcr.io/nvidia/ai-dynamo/sglang-runtime:1.6.1", "sglang-0.5.21", "dynamo"),
    "trtllm": Backend(trtllm.ENGINE, "nvcr.io/nvidia/ai-dynamo/tensorrtllm-runtime:1.6.1", "trtllm", "dynamo"),
})  # fmt: skip


def files(plan: Plan, facts: Facts) -> dict[str, str]:
    """Return the manifests by path: a graph per target, and per workload what stands before it and a benchmark.

    Raises:
        InputError: no deployment runs on an engine and devices that Dynamo has.
    """
    configured(plan, "dynamo")
    placed = [s for s in servers(plan, facts) if _can(s, facts)]
    if not placed:
        known = ", ".join(BACKENDS)
        raise InputError.single(
            "", f"nothing to write for dynamo: it runs {known} on NVIDIA devices, the plan has none of these"
        )
    found = [t for t in targets(plan, facts, servers(plan, facts)) if (t.mixed or t.prefill)[0] in placed]
    written: dict[str, str] = {}
    for target in found:
        objects = list(_graph(target, facts))
        written[f"{target.name}.yaml"] = _manifest(f"{target.name}: {_versions(target)}", objects)
    for workload in dict.fromkeys(target.workload for target in found):
        mine = [target for target in found if target.workload == workload]
        name = slug(workload)
        written[f"{name}-front.yaml"] = _manifest(f"{name}: requests split as planned", _front(name, mine))
        head = [f"{name} at the planned load, through its front, {PREDICTED}", *figures(plan, mine)]
        written[f"{name}-benchmark.yaml"] = _manifest("\n# ".join(head), [_benchmark(plan, name, mine, facts)])
    written["README.md"] = _readme(plan, facts, found)
    return written


def _can(server: Server, facts: Facts) -> bool:
    d = server.deployment
    return d.engine.name in BACKENDS and facts.inventory[d.inventory].vendor == "NVIDIA"


def _manifest(head: str, objects: Sequence[Mapping[str, Any]]) -> str:
    return f"# {head}\n" + "---\n".join(yaml_io.dump(dict(item)) for item in objects)


def _versions(target: Target) -> str:
    d = _first(target).deployment
    backend = BACKENDS[d.engine.name]
    version = backend.definition.rpartition("-")[2] if "-" in backend.definition else trtllm.VERSION
    return f"{backend.image} with {backend.engine.title} {version}; the plan is for {d.engine.version}"


def _first(target: Target) -> Server:
    return (target.mixed or target.prefill)[0]


def _members(target: Target) -> list[list[Server]]:
    """Return the replicas of each deployment of a target."""
    by_name: dict[str, list[Server]] = {}
    for server in (*target.mixed, *target.prefill, *target.decode):
        by_name.setdefault(server.deployment.name, []).append(server)
    return list(by_name.values())


def _graph(target: Target, facts: Facts) -> Iterator[dict[str, Any]]:
    engine = _first(target).deployment.engine.name
    frontend = {
        "name": "frontend",
        "type": "frontend",
        "replicas": 1,
        "podTemplate": {"spec": {"containers": [{"name": "main", "image": BACKENDS[engine].image}]}},
    }
    workers = [_worker(replicas, facts) for replicas in _members(target)]
    yield {
        "apiVersion": API,
        "kind": "DynamoGraphDeployment",
        "metadata": {"name": target.name},
        "spec": {"backendFramework": engine, "components": [frontend, *workers]},
    }
    if engine == "trtllm":
        options = {
            f"{slug(replicas[0].deployment.name)}.yaml": yaml_io.dump(
                dict(trtllm.settings(replicas[0].deployment, facts))
            )
            for replicas in _members(target)
        }
        yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{target.name}-engine"}, "data": options}


def _worker(replicas: Sequence[Server], facts: Facts) -> dict[str, Any]:
    server = replicas[0]
    d = server.deployment
    nodes, each = len(server.parts), len(server.parts[0].devices)
    words = _words(d, facts)
    container: dict[str, Any] = {
        "name": "main",
        "image": BACKENDS[d.engine.name].image,
        "command": ["python3", "-m", f"dynamo.{d.engine.name}"],
        "args": words,
        "env": [{"name": name, "value": value} for name, value in _environment(server, facts).items()],
        "envFrom": [{"secretRef": {"name": _TOKEN}}],
        "resources": {"limits": {"nvidia.com/gpu": str(each)}},
        "startupProbe": {
            "httpGet": {"path": "/live", "port": _SYSTEM_PORT},
            "periodSeconds": 10,
            "failureThreshold": 360,
        },
        "volumeMounts": [{"name": "models", "mountPath": _MODELS}],
    }
    volumes: list[dict[str, Any]] = [_weights()]
    if d.engine.name == "trtllm":
        container["volumeMounts"].append({"name": "engine", "mountPath": "/engine"})
        volumes.append({"name": "engine", "configMap": {"name": f"{slug(d.pair or d.name)}-engine"}})
    pod = {"nodeSelector": {INVENTORY: slug(d.inventory)}, "containers": [container], "volumes": volumes}
    component: dict[str, Any] = {
        "name": slug(d.name),
        "type": _TYPES[d.role],
        "replicas": len(replicas),
        "sharedMemorySize": "64Gi",
        "podTemplate": {"spec": pod},
    }
    return component | ({"multinode": {"nodeCount": nodes}} if nodes > 1 else {})


def _weights() -> dict[str, Any]:
    """Return the volume that weights are kept in, anew: a manifest must not refer to another of its parts."""
    return {"name": "models", "persistentVolumeClaim": {"claimName": "models"}}


def _environment(server: Server, facts: Facts) -> dict[str, str]:
    """Return the variables of a worker: weights are kept in the volume, addresses and ports are Dynamo's to give."""
    found = BACKENDS[server.deployment.engine.name].engine.environment(server, 0, facts)
    own = {name: value for name, value in found.items() if "${" not in value and "PORT" not in name}
    return {"HF_HOME": _CACHE} | own


def _words(d: Deployment, facts: Facts) -> list[str]:
    """Return the arguments of a worker: the engine's options, held to the version in the image, and Dynamo's own."""
    backend = BACKENDS[d.engine.name]
    mode = {} if d.role == "mixed" or d.engine.name == "sglang" else {"disaggregation-mode": d.role}
    own = checked(backend.worker, d.engine.name, mode)
    if d.engine.name == "trtllm":
        path, _ = checkpoint(d, facts, {})
        served = facts.models[d.model].repository
        more = {"model": path, "served-model-name": served, "extra-engine-args": f"/engine/{slug(d.name)}.yaml"}
        return flags(checked(backend.worker, "trtllm", {**more, **own}))
    settings = backend.engine.settings(d, facts)
    settings = sglang.with_dp_size(settings) if d.engine.name == "sglang" else settings
    kept = {name: value for name, value in settings.items() if name not in _SERVER_ONLY}
    return flags(checked(backend.definition, "serve", kept)) + flags(own)


def _front(name: str, mine: Sequence[Target]) -> list[dict[str, Any]]:
    """Return a split of requests over the graphs' own frontends, by planned rates."""
    labels = {"app": f"{name}-front"}
    conf = front_lines(name, [(f"{t.name}-frontend:{_FRONT_PORT}", t.rate) for t in mine], _FRONT_PORT)
    probe = {"tcpSocket": {"port": _FRONT_PORT}, "periodSeconds": 5}
    container = {
        "name": "nginx",
        "image": FRONT_IMAGE,
        "ports": [{"containerPort": _FRONT_PORT}],
        "readinessProbe": probe,
        "volumeMounts": [{"name": "conf", "mountPath": "/etc/nginx/conf.d"}],
    }
    pod = {"containers": [container], "volumes": [{"name": "conf", "configMap": {"name": f"{name}-front"}}]}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"{name}-front"},
            "data": {"default.conf": conf},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": f"{name}-front"},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": dict(labels)}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": f"{name}-front"},
            "spec": {"selector": dict(labels), "ports": [{"port": _FRONT_PORT, "targetPort": _FRONT_PORT}]},
        },
    ]


def _benchmark(plan: Plan, name: str, mine: Sequence[Target], facts: Facts) -> dict[str, Any]:
    engine = BACKENDS[_first(mine[0]).deployment.engine.name].engine._replace(result=aiperf.RESULT)
    load = load_of(engine, facts, mine, f"http://{name}-front:{_FRONT_PORT}")
    words = aiperf.bench(load)
    show = f"{words[-1]} >&2 && cat {load.result}"
    container: dict[str, Any] = {
        "name": "aiperf",
        "image": aiperf.IMAGE,
        "command": [*words[:-1], show],
        "env": [{"name": "HF_HOME", "value": _CACHE}],
        "envFrom": [{"secretRef": {"name": _TOKEN}}],
        "volumeMounts": [{"name": "models", "mountPath": _MODELS}],
    }
    pod = {"restartPolicy": "Never", "containers": [container], "volumes": [_weights()]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"{name}-benchmark"},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }


def _readme(plan: Plan, facts: Facts, found: Sequence[Target]) -> str:
    graphs = "\n".join(f"kubectl apply -f {target.name}.yaml" for target in found)
    names = [slug(workload) for workload in dict.fromkeys(target.workload for target in found)]
    fronts = "\n".join(f"kubectl apply -f {name}-front.yaml" for name in names)
    jobs = "\n".join(
        f"kubectl apply -f {name}-benchmark.yaml\nkubectl logs -f job/{name}-benchmark | tail -n +1 > {name}.log"
        for name in names
    )
    left = [d for d in plan.deployments if isinstance(d, Deployment) and d.engine.name not in BACKENDS]
    others = "".join(f"\n- not here, since it runs on {d.engine.name}: {slug(d.name)}" for d in left)
    inventories = dict.fromkeys(s[0].deployment.inventory for t in found for s in _members(t))
    labels = "\n".join(
        f"kubectl label node NODE {INVENTORY}={slug(name)}  # every node of {slug(name)}" for name in inventories
    )
    lines = "\n".join(f"- {line}" for line in figures(plan, found))
    return f"""# {slug(plan.scenario.name)} on Dynamo

Written by planner {plan.planner_version} from a plan that is {plan.termination.detail};
{PREDICTED}

{lines}

## Before

- an operator of Dynamo that serves `{API}`
- a secret `{_TOKEN}` with HF_TOKEN
- a volume claim `models` that all pods can mount and write: weights are downloaded below `{_CACHE}`; what no
  model's name stands for must lie there already
- network adapters with RDMA in the pods, for prefill and decode apart and for replicas of several nodes: how pods ask
  for them is the cluster's own (an annotation or a resource of its device plugin), so it is not in these files
- nodes by inventory:

```sh
{labels}
```

The runtime images hold another release of the engine than the plan was priced for: the first line of each file says
which. Every option was held against the one in the image.{others}

## Start

```sh
{graphs}
{fronts}
```

## Benchmark

```sh
{jobs}
```

The log ends with AIPerf's result; `planner compare {PLAN} RESULT --of WORKLOAD` puts it beside the prediction.
`{PLAN}` is the plan that all this was written from (files that its scenario names by a relative path are looked for
beside it: `--folder` says where else).
"""


def read(written: Mapping[str, str], plan: Plan, facts: Facts) -> dict[str, Found]:
    """Read manifests back; which nodes pods land on is Kubernetes' to decide, so devices are only counted."""
    by_slug = {slug(d.name): d for d in plan.deployments if isinstance(d, Deployment)}
    found: dict[str, Found] = {}
    for path, text in written.items():
        objects = yaml_io.parse_all(text, path) if path.endswith(".yaml") else []
        maps = {item["metadata"]["name"]: item["data"] for item in objects if item["kind"] == "ConfigMap"}
        for item in objects:
            if item["kind"] != "DynamoGraphDeployment":
                continue
            for component in item["spec"]["components"]:
                if component["type"] != "frontend":
                    d = by_slug[component["name"]]
                    found[d.name] = _found(component, item["spec"]["backendFramework"], maps, d, facts)
    return found


def _found(component: Mapping[str, Any], name: str, maps: Mapping[str, Any], d: Deployment, facts: Facts) -> Found:
    (container,) = component["podTemplate"]["spec"]["containers"]
    backend = BACKENDS[name]
    if name == "trtllm":
        said = from_flags(backend.worker, "trtllm", container["args"])
        file = said["extra-engine-args"].removeprefix("/engine/")
        data = next(data for data in maps.values() if file in data)
        options: Options = {**yaml_io.parse(data[file], file).data, "model": said["model"]}
    else:
        words = container["args"]
        own = (
            words.index("--disaggregation-mode") if name == "vllm" and "--disaggregation-mode" in words else len(words)
        )
        options = from_flags(backend.definition, "serve", words[:own])
    options = {**options, "environment": {item["name"]: item["value"] for item in container["env"]}}
    fields = dict(backend.engine.read(options, d.model, facts))
    fields["role"] = next(role for role, kind in _TYPES.items() if kind == component["type"])
    nodes = component.get("multinode", {}).get("nodeCount", 1)
    each = int(container["resources"]["limits"]["nvidia.com/gpu"])
    parts = tuple((f"{component['name']}-{n}", tuple(range(each))) for n in range(nodes))
    return Found(fields, (parts,) * component["replicas"])
