"""A folder of launch files for containers: options of each deployment, and what each node starts (Compose files)."""

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from planner import yaml_io
from planner.errors import InputError, InternalError
from planner.launch import slurm
from planner.launch.benchmark import benchmarks
from planner.launch.definition import Options, checked_variables, definition, flags, from_flags
from planner.launch.engine import Engine, configured
from planner.launch.facts import Facts
from planner.launch.found import Found
from planner.launch.front import FRONT_IMAGE, front_conf
from planner.launch.readme import readme
from planner.launch.servers import FRONT, Server, Target, address_of, servers, slug, targets
from planner.launch.vendor import ASCEND_DRIVER, image
from planner.plan import Deployment, Plan

HOSTS = "hosts.env"
_AMD = "HIP_VISIBLE_DEVICES"
_NPU = "/dev/davinci"
_RDMA = "/dev/infiniband"


def files(plan: Plan, facts: Facts, engine: Engine) -> dict[str, str]:
    """Return the files by path: a folder per deployment, a Compose file per node and one before them, benchmarks.

    Replicas of several nodes that meet through MPI are jobs of their own instead (``slurm``).

    Raises:
        InputError: the plan has no deployment of this engine, or of another version of it.
    """
    mine = of_engine(plan, engine)
    placed = [s for s in servers(plan, facts) if s.deployment.engine.name == engine.name]
    found = [t for t in targets(plan, facts, servers(plan, facts)) if (t.mixed or t.prefill)[0] in placed]
    settings = {d.name: engine.settings(d, facts) for d in mine}
    written = {f"{slug(d.name)}/{engine.config}": _dumped(engine, d, settings[d.name]) for d in mine}
    jobs = [server for server in placed if _is_job(engine, server)]
    written |= {slurm.path_of(server): _job(engine, server, facts, _pair_of(server, placed)) for server in jobs}
    contained = [server for server in placed if server not in jobs]
    for node in dict.fromkeys(name for server in contained for name in server.nodes):
        services = dict(_services(engine, contained, node, facts))
        written[f"{node}.compose.yaml"] = yaml_io.dump(
            {"name": f"{slug(plan.scenario.name)}-{node}", "services": services}
        )
    written |= _front(plan, engine, found)
    written |= benchmarks(plan, facts, engine, found)
    more = engine.beside(placed, facts)
    written |= more.files
    written["ready.sh"] = _ready(engine, placed)
    written[HOSTS] = _hosts(placed, written, more.hosts)
    submissions = [slurm.submission(job) for job in jobs]
    written["README.md"] = readme(plan, engine, settings, found, written, submissions, more.needs)
    return written


def of_engine(plan: Plan, engine: Engine) -> list[Deployment]:
    """Return the plan's deployments of an engine.

    Raises:
        InputError: there is none, or one of a version whose options are not known.
    """
    ours = configured(plan, engine.name)
    mine = [d for d in ours if d.engine.name == engine.name]
    if not mine:
        others = sorted({d.engine.name for d in ours})
        asked = f"the plan was solved for {' and '.join(others)}; its limits and figures do not carry over"
        again = f"export --to {others[0]}, or solve again with --set 'engine={{name: {engine.name}}}'"
        msg = f"nothing to write for {engine.name}: {asked}: {again}"
        raise InputError.single("", msg)
    version = definition(engine.name).version
    wrong = sorted({d.engine.version for d in mine if not f"{version}.".startswith(f"{d.engine.version}.")})
    if wrong:
        msg = f"the plan is for {engine.name} {', '.join(wrong)}; options are known of {version}"
        raise InputError.single("", msg)
    return mine


def _dumped(engine: Engine, d: Deployment, settings: Options) -> str:
    """Return options as the engine's file has them; JSON has no place for a comment."""
    if engine.config.endswith(".json"):
        return json.dumps(settings, indent=2) + "\n"
    version = definition(engine.name).version
    lines = [f"{slug(d.name)}: {engine.title} {version}, {d.replicas} × {d.devices_per_replica} {slug(d.hardware)}"]
    if engine.block_option and engine.block_option not in settings:
        lines += [f"{engine.block_option} is left to the engine: its kernel for latents (MLA) takes",
                  f"{engine.kernel_blocks}; the plan counts blocks of {d.block_size}"]  # fmt: skip
    return "".join(f"# {line}\n" for line in lines) + yaml_io.dump(dict(settings))


def _hosts(placed: Sequence[Server], written: Mapping[str, str], more: Sequence[str]) -> str:
    nodes = list(dict.fromkeys(name for server in placed for name in server.nodes))
    lines = ["# Addresses of the nodes, as they reach each other, and where weights are kept on them."]
    lines += [f"{address_of(node)}={'127.0.0.1' if len(nodes) == 1 else node}" for node in nodes]
    lines += [f"FRONT_ADDRESS={'127.0.0.1' if len(nodes) == 1 else nodes[0]}"]
    if any("NETWORK_INTERFACE" in text for text in written.values()):
        lines += [
            "# the network interface that has these addresses, as all nodes call it",
            "NETWORK_INTERFACE=eth0",
        ]
    return "\n".join([*lines, *more, "MODELS=/models", "HF_CACHE=/root/.cache/huggingface", "HF_TOKEN=", ""])


def _ready(engine: Engine, placed: Sequence[Server]) -> str:
    """Return a script that waits until every replica answers; those of several nodes do once all their parts run."""
    urls = [f"http://${{{address_of(s.head)}}}:{s.port + engine.health_offset}{engine.health}" for s in placed]
    lines = ["#!/bin/sh", "set -eu", 'cd "$(dirname "$0")"', f"set -a && . ./{HOSTS} && set +a"]
    lines += [
        "# waits as long as weights take to load; a replica that keeps restarting is seen in `docker compose logs`"
    ]
    for url in urls:
        lines += [
            f'echo "waiting for {url}"',
            f'until curl --fail --silent --output /dev/null "{url}"; do sleep 5; done',
        ]
    return "\n".join([*lines, f'echo "all {len(urls)} replicas are ready"', ""])


def _services(
    engine: Engine, placed: Sequence[Server], node: str, facts: Facts
) -> Iterator[tuple[str, dict[str, Any]]]:
    for server in placed:
        for k, name in enumerate(server.nodes):
            if name == node:
                suffix = f"-n{k}" if len(server.parts) > 1 else ""
                yield f"{server.name}{suffix}", _service(engine, server, k, facts, _pair_of(server, placed))


def _service(engine: Engine, server: Server, k: int, facts: Facts, pair: Sequence[Deployment]) -> dict[str, Any]:
    d, (vendor, stock) = server.deployment, facts.inventory[server.deployment.inventory]
    ids = [str(device) for device in server.parts[k].devices]
    visible = {_AMD: ",".join(ids)} if vendor == "AMD" else {}
    drivers = [f"{path}:{path}:ro" for path in ASCEND_DRIVER] if vendor == "Huawei" else []
    outside = len(server.parts) > 1 or (d.role != "mixed" and len(stock.nodes) > 1)
    service = {
        "image": image(engine, d.hardware, vendor),
        "entrypoint": list(engine.program),
        "command": _command(engine, server, flags(engine.part(server, k, pair)), facts),
        "network_mode": "host",
        **engine.shared_memory,
        "ulimits": {"memlock": -1},
        "restart": "unless-stopped",
        "environment": {
            "HF_TOKEN": "${HF_TOKEN}",
            **checked_variables(engine.name, engine.environment(server, k, facts)),
            **visible,
        },
        "volumes": [
            f"./{slug(d.name)}:/launch:ro",
            "${MODELS}:/models:ro",
            "${HF_CACHE}:/root/.cache/huggingface",
            *drivers,
        ],
        **_devices(vendor, ids, [_RDMA] if outside and vendor != "Huawei" else []),
    }
    return service | ({} if k else {"healthcheck": _probe(engine, server)})


def _command(engine: Engine, server: Server, words: Sequence[str], facts: Facts) -> list[str]:
    if engine.command is not None:
        return list(engine.command(server, words, facts))
    return ["--config", f"/launch/{engine.config}", *words]


def _is_job(engine: Engine, server: Server) -> bool:
    """Tell whether a replica is started by the cluster and not by containers of each node."""
    return bool(engine.launcher) and len(server.parts) > 1


def _job(engine: Engine, server: Server, facts: Facts, pair: Sequence[Deployment]) -> str:
    vendor, _ = facts.inventory[server.deployment.inventory]
    words = _command(engine, server, flags(engine.part(server, 0, pair)), facts)
    variables = checked_variables(engine.name, engine.environment(server, 0, facts))
    chosen = image(engine, server.deployment.hardware, vendor)
    return slurm.job(server, chosen, [*engine.launcher, *engine.program, *words], variables, HOSTS)


def _pair_of(server: Server, placed: Sequence[Server]) -> list[Deployment]:
    """Return the deployments that a replica exchanges caches with, itself among them; none of a mixed one."""
    pair = server.deployment.pair
    return [s.deployment for s in placed if s.number == 0 and s.deployment.pair == pair] if pair else []


def _devices(vendor: str, ids: Sequence[str], network: Sequence[str]) -> dict[str, Any]:
    """Return how a container gets its devices: by number, by file, or all of them, of which it uses some (AMD).

    ``network``: the files of network adapters that devices reach other nodes by; they take locked memory, too.
    """
    raw = {
        "NVIDIA": [],
        "Huawei": [*(f"{_NPU}{i}" for i in ids), f"{_NPU}_manager", "/dev/devmm_svm", "/dev/hisi_hdc"],
    }.get(vendor, ["/dev/kfd", "/dev/dri"])
    found: dict[str, Any] = {"cap_add": ["IPC_LOCK"]} if network else {}
    if raw or network:
        found["devices"] = [f"{path}:{path}" for path in (*raw, *network)]
    if vendor == "NVIDIA":
        reserved = {"driver": "nvidia", "device_ids": list(ids), "capabilities": ["gpu"]}
        found["deploy"] = {"resources": {"reservations": {"devices": [reserved]}}}
    return found


def _probe(engine: Engine, server: Server) -> dict[str, Any]:
    """Return the health check; every image has Python, not every one curl."""
    url = f"http://${{{address_of(server.head)}}}:{server.port + engine.health_offset}{engine.health}"
    test = ["CMD", "python3", "-c", f"import urllib.request as r; r.urlopen('{url}', timeout=8)"]
    return {"test": test, "interval": "15s", "timeout": "10s", "retries": 6, "start_period": "60m"}


def _front(plan: Plan, engine: Engine, found: Sequence[Target]) -> dict[str, str]:
    """Return what stands before the replicas: a router for each pair, and a split of each workload by planned rates."""
    services: dict[str, Any] = {}
    written: dict[str, str] = {}
    for target in found:
        if target.prefill:
            router = engine.route(target)
            services[f"{target.name}-router"] = {
                "image": router.image, "command": list(router.command), "network_mode": "host",
                "restart": "unless-stopped",
            }  # fmt: skip
            written |= {f"front/{name}": text for name, text in router.files.items()}
            if router.files:
                services[f"{target.name}-router"] |= {"env_file": [HOSTS], "volumes": ["./front:/front:ro"]}
    for n, workload in enumerate(dict.fromkeys(target.workload for target in found)):
        path = f"front/{slug(workload)}.conf.template"
        written[path] = front_conf(slug(workload), [t for t in found if t.workload == workload], FRONT + n)
        services[f"{slug(workload)}-front"] = {
            "image": FRONT_IMAGE, "network_mode": "host", "restart": "unless-stopped", "env_file": [HOSTS],
            "volumes": [f"./{path}:/etc/nginx/templates/default.conf.template:ro"],
        }  # fmt: skip
    written["front.compose.yaml"] = yaml_io.dump({"name": f"{slug(plan.scenario.name)}-front", "services": services})
    return written


def read(written: Mapping[str, str], plan: Plan, facts: Facts, engine: Engine) -> dict[str, Found]:
    """Read launch files back: what every deployment of an engine is started with, by name.

    Options on a command line go before those of the configuration file, as in the engine itself.
    """
    found: dict[str, Found] = {}
    mine = {slug(d.name): d for d in of_engine(plan, engine)}
    starts: dict[str, dict[tuple[int, int], tuple[str, tuple[int, ...], dict[str, Any]]]] = {name: {} for name in mine}
    for path, text in written.items():
        if path.endswith(".sbatch"):
            job = slurm.read_job(text, (*engine.launcher, *engine.program))
            options = {**(engine.said(job.words) if engine.said else {}), "environment": job.environment}
            for part, node in enumerate(job.nodes):
                starts[job.deployment][job.replica, part] = (node, tuple(range(job.devices)), options)
        if not path.endswith(".compose.yaml") or path == "front.compose.yaml":
            continue
        for name, service in yaml_io.parse(text, path).data["services"].items():
            deployment, replica, part = _identity(name, service)
            words = service["command"]
            options = dict(engine.said(words) if engine.said else from_flags(engine.name, "serve", words))
            options["environment"] = service["environment"]
            node = path.removesuffix(".compose.yaml")
            starts[deployment][replica, part] = (node, _given(service), options)
    for name, d in mine.items():
        path = f"{name}/{engine.config}"
        settings = yaml_io.parse(written[path], path).data
        read_back = [engine.read({**settings, **options}, d.model, facts) for _, _, options in starts[name].values()]
        if any(fields != read_back[0] for fields in read_back):
            msg = f"{name}: its replicas are not started alike"
            raise InternalError(msg)
        replicas: dict[int, list[tuple[str, tuple[int, ...]]]] = {}
        for (replica, _), (node, devices, _) in sorted(starts[name].items()):
            replicas.setdefault(replica, []).append((node, devices))
        found[d.name] = Found(read_back[0], tuple(tuple(parts) for parts in replicas.values()))
    return found


def _identity(name: str, service: Mapping[str, Any]) -> tuple[str, int, int]:
    """Return the deployment, replica and part that a service is."""
    deployment = next(v for v in service["volumes"] if v.endswith(":/launch:ro")).split(":")[0].removeprefix("./")
    replica, _, part = name.removeprefix(f"{deployment}-r").partition("-n")
    return deployment, int(replica), int(part or 0)


def _given(service: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the devices that a service gets."""
    if _AMD in service["environment"]:
        return tuple(int(i) for i in service["environment"][_AMD].split(","))
    if "deploy" in service:
        (reserved,) = service["deploy"]["resources"]["reservations"]["devices"]
        return tuple(int(i) for i in reserved["device_ids"])
    numbers = [path.partition(":")[0].removeprefix(_NPU) for path in service["devices"]]
    return tuple(int(number) for number in numbers if number.isdigit())


def both_ways(
    engine: Engine,
) -> tuple[Callable[[Plan, Facts], dict[str, str]], Callable[[Mapping[str, str], Plan, Facts], dict[str, Found]]]:
    """Return ``files`` and ``read`` of one engine, as the module of a format has them."""
    return functools.partial(files, engine=engine), functools.partial(read, engine=engine)
