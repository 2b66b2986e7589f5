"""What people read beside the launch files."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from planner.launch.benchmark import PLAN, by_deployment, written
from planner.launch.definition import Options, definition
from planner.launch.engine import Engine
from planner.launch.servers import FRONT, Target, slug
from planner.plan import Deployment, Plan
from planner.text import figure, nearest, shows


def readme(
    plan: Plan,
    engine: Engine,
    settings: Mapping[str, Options],
    found: Sequence[Target],
    files: Mapping[str, str],
    jobs: Sequence[str],
    needs: Sequence[str],
) -> str:
    """Return how to start what was written, what to expect of it, and what must be there first.

    ``settings``: options by deployment. ``jobs``: commands that submit replicas of several nodes. ``needs``: what the
    engine asks for before anything starts.
    """
    mine = [d for d in plan.deployments if isinstance(d, Deployment) and d.name in settings]
    containers = [path for path in files if path.endswith(".compose.yaml") and path != "front.compose.yaml"]
    ups = "\n".join(f"docker compose --env-file hosts.env -f {path} up -d" for path in containers)
    runs = "\n".join(f"sh {path}" for path in files if path.startswith("benchmark/"))
    doors = "\n".join(
        f"- `{slug(workload)}`: port {FRONT + n}" for n, workload in enumerate(dict.fromkeys(t.workload for t in found))
    )
    before = "".join(f"- {line}\n" for line in (*_needed(plan, engine, settings, files), *needs))
    return f"""# {slug(plan.scenario.name)} on {engine.title} {definition(engine.name).version}

Written by planner {plan.planner_version} from a plan that is {plan.termination.detail}.

{_table(plan, mine, found)}

Latencies are means at the planned rate, {_measured(mine)}.
Those of a pair stand once: TTFT with its prefill, TPOT with its decode.

## Before

{before}
## Start
{_started(ups, jobs)}
then on the node that FRONT_ADDRESS names, where the first line waits until all replicas answer:

```sh
sh ready.sh
docker compose --env-file hosts.env -f front.compose.yaml up -d
```

Requests go to

{doors}

## Benchmark

At the planned load, once all is up:

```sh
{runs}
```

`planner compare {PLAN} benchmark/RESULT` puts a result beside the prediction; `{PLAN}` is the plan that all this was
written from (files that its scenario names by a relative path are looked for beside it: `--folder` says where else).
"""


def _measured(mine: Sequence[Deployment]) -> str:
    """Return what latencies rest on."""
    fitted = [d for d in mine if d.predicted.confidence is not None]
    if not fitted:
        return f"from {mine[0].predicted.basis} efficiencies, not fitted to silicon"
    said = dict.fromkeys(nearest(d.predicted.basis, d.engine.name, d.hardware) for d in fitted)
    return f"in parentheses the 80 % interval; {'; '.join(said)}"


def _started(ups: str, jobs: Sequence[str]) -> str:
    """Return how replicas are started: by containers on each node, or as jobs of the cluster."""
    steps = []
    if ups:
        steps.append(f"""
On each node, in this folder (the same on all of them):

```sh
{ups}
```
""")
    if jobs:
        submitted = "\n".join(jobs)
        steps.append(f"""
Replicas of several nodes are Slurm jobs, submitted from this folder, which all nodes must share. Their containers take
the pyxis plugin; addresses in `hosts.env` are names of nodes as Slurm has them, in its order:

```sh
set -a && . ./hosts.env && set +a
{submitted}
```
""")
    return "".join(steps)


def _needed(plan: Plan, engine: Engine, settings: Mapping[str, Options], files: Mapping[str, str]) -> Iterator[str]:
    """Yield what must be there before anything starts, and what is not in these files."""
    text = "\n".join(files.values())
    yield "`hosts.env`: the address of every node, where weights are kept, and a token if the model asks for one"
    if "--container-image" in text:
        yield "Slurm with pyxis and enroot on the nodes; `sbatch` takes --partition, --account or --time besides"
    if "NETWORK_INTERFACE" in text:
        yield "`NETWORK_INTERFACE` in it: the interface with those addresses, by which parts of a replica meet"
    if "/dev/infiniband" in text:
        yield "`/dev/infiniband` on nodes whose replicas reach others: adapters with RDMA, which the plan counts on"
    if any(said in text for said in ("trust-remote-code", "trust_remote_code", '"trustRemoteCode": true')):
        yield "trust in the model's repository: engines run code from there to read its tokenizer or configuration"
    if "pip install" in text:
        yield "a package index that the front and benchmarks can install from, each a package of a pinned version"
    for path in dict.fromkeys(path for options in settings.values() for path in _local(options)):
        yield f"`{path}`: weights put there by hand: no model's name alone says which these are"
    left = [d for d in plan.deployments if isinstance(d, Deployment) and d.engine.name != engine.name]
    if left:
        others = ", ".join(sorted({d.engine.name for d in left}))
        yield f"{', '.join(slug(d.name) for d in left)}: on {others}, so not here; export the plan to that engine, too"


def _local(value: Any) -> Iterator[str]:
    """Yield the paths of weights in options."""
    if isinstance(value, str) and value.startswith("/models/"):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _local(inner)


def _table(plan: Plan, mine: Sequence[Deployment], found: Sequence[Target]) -> str:
    head = ("deployment", "role", "replicas", "devices", "tp", "pp", "dp", "ep", "request/s", "TTFT", "TPOT")
    seen = by_deployment(plan, found)
    rows = [
        (
            slug(d.name), d.role, d.replicas, f"{d.devices} {slug(d.hardware)}", d.tp, d.pp, d.attention_dp, d.ep,
            figure(d.requests_per_s), written(seen[d.name].ttft) if shows(d.role, "ttft") else "",
            written(seen[d.name].tpot) if shows(d.role, "tpot") else "",
        )
        for d in mine
    ]  # fmt: skip
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in lines)
