"""What people read beside the launch files, and the benchmarks that hold a plan to its word."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from planner.launch.definition import Options, definition
from planner.launch.engine import Engine, Load
from planner.launch.facts import Facts
from planner.launch.servers import FRONT, Target, slug
from planner.plan import Deployment, Plan
from planner.text import figure


def benchmarks(plan: Plan, facts: Facts, engine: Engine, found: Sequence[Target]) -> dict[str, str]:
    """Return benchmark scripts by path: of each workload at its planned rate, of a replica with its planned clients."""
    written = {}
    for n, workload in enumerate(dict.fromkeys(target.workload for target in found)):
        mine = [target for target in found if target.workload == workload]
        model = facts.models[_deployment(mine[0]).model].repository
        rate, lengths, name = sum(target.rate for target in mine), facts.workloads[workload], slug(workload)
        whole = Load(
            f"http://${{FRONT_ADDRESS}}:{FRONT + n}", model, lengths.input_tokens, lengths.output_tokens, rate,
            max(1, round(sum(target.clients for target in mine))), engine.result.format(name=name),
        )  # fmt: skip
        head = [
            f"{name} at the planned {figure(rate)} request/s, through its front",
            "predicted:",
            *figures(plan, mine),
        ]
        written[f"benchmark/{name}.sh"] = _script(engine, mine[0], facts, whole, head)
        for target in mine:
            if target.mixed:
                each, result = max(1, round(target.clients / len(target.mixed))), engine.result.format(name=target.name)
                one = whole._replace(url=target.mixed[0].url, rate=0.0, clients=each, result=result)
                written[f"benchmark/{target.name}.sh"] = _script(engine, target, facts, one, _loop(plan, target, each))
    return written


def _loop(plan: Plan, target: Target, clients: int) -> list[str]:
    return [
        f"one replica of {target.name} with {clients} clients, as many as are planned",
        "the plan's figures are those of requests that arrive at random, see below; this is a loop of clients,",
        "which see other first tokens: `planner compare` predicts them",
        *figures(plan, [target]),
    ]


def _deployment(target: Target) -> Deployment:
    return (target.mixed or target.prefill)[0].deployment


def _script(engine: Engine, target: Target, facts: Facts, load: Load, head: Sequence[str]) -> str:
    image = engine.bench_image or engine.images[facts.inventory[_deployment(target).inventory].vendor]
    words = [_quoted(word) for word in engine.bench(load)]
    lines = [
        "#!/bin/sh",
        *(f"# {line}" for line in head),
        "set -eu",
        'cd "$(dirname "$0")"',
        "set -a && . ../hosts.env && set +a",
        'docker run --rm --network host --env HF_TOKEN --volume "$PWD:/results" --workdir /results \\',
        f'  --volume "$HF_CACHE:/root/.cache/huggingface" --entrypoint {words[0]} {image} \\',
        f"  {' '.join(words[1:])}",
        f'echo "now: planner compare plan.json $PWD/{load.result}"',
    ]
    return "\n".join([*lines, ""])


def _quoted(word: str) -> str:
    """Quote a word for a shell, but let variables be filled in."""
    return f'"{word}"' if "${" in word else shlex.quote(word)


def figures(plan: Plan, found: Sequence[Target]) -> Iterator[str]:
    """Yield what each target's requests are predicted to see."""
    for target in found:
        if target.mixed:
            d = _deployment(target)
            yield f"{target.name}: {figure(target.rate)} request/s, TTFT {ttft(d)}, TPOT {tpot(d)}"
        names = {server.deployment.name for server in target.decode}
        for route in plan.routes:
            if route.decode in names and route.ttft_ms is not None and route.tpot_ms is not None:
                yield (
                    f"{slug(route.prefill)} to {slug(route.decode)}: {figure(route.requests_per_s)} request/s, "
                    f"TTFT {figure(route.ttft_ms)} ms, TPOT {figure(route.tpot_ms)} ms"
                )


def ttft(d: Deployment) -> str:
    """Return the predicted TTFT, with its interval where the plan has one."""
    return _with_interval(d, "ttft_ms")


def tpot(d: Deployment) -> str:
    """Return the predicted TPOT, with its interval where the plan has one."""
    return _with_interval(d, "tpot_ms")


def _with_interval(d: Deployment, name: str) -> str:
    low, high = (getattr(d.predicted, f"{name}_{end}", None) for end in ("p10", "p90"))
    interval = "" if low is None or high is None else f" ({figure(low)} to {figure(high)})"
    return f"{figure(getattr(d.predicted, name))} ms{interval}"


def readme(
    plan: Plan, engine: Engine, settings: Mapping[str, Options], found: Sequence[Target], written: Mapping[str, str]
) -> str:
    """Return how to start what was written, what to expect of it, and what must be there first.

    ``settings``: options by deployment.
    """
    mine = [d for d in plan.deployments if isinstance(d, Deployment) and d.name in settings]
    nodes = [path for path in written if path.endswith(".compose.yaml") and path != "front.compose.yaml"]
    ups = "\n".join(f"docker compose --env-file hosts.env -f {path} up -d" for path in nodes)
    runs = "\n".join(f"sh {path}" for path in written if path.startswith("benchmark/"))
    doors = "\n".join(
        f"- `{slug(workload)}`: port {FRONT + n}" for n, workload in enumerate(dict.fromkeys(t.workload for t in found))
    )
    before = "".join(f"- {line}\n" for line in _needed(plan, engine, settings))
    return f"""# {slug(plan.scenario.name)} on {engine.title} {definition(engine.name).version}

Written by planner {plan.planner_version} from a plan that is {plan.termination.detail}.

{_table(mine)}

Latencies are means at each deployment's full rate, from {mine[0].predicted.basis} efficiencies.

## Before

{before}
## Start

On each node, in this folder (the same on all of them):

```sh
{ups}
```

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

`planner compare plan.json benchmark/RESULT.json` puts the result beside the prediction.
"""


def _needed(plan: Plan, engine: Engine, settings: Mapping[str, Options]) -> Iterator[str]:
    """Yield what must be there before anything starts, and what is not in these files."""
    yield "`hosts.env`: the address of every node, where weights are kept, and a token if the model asks for one"
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
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _local(inner)


def _table(mine: Sequence[Deployment]) -> str:
    head = ("deployment", "replicas", "devices", "tp", "pp", "dp", "ep", "request/s", "TTFT", "TPOT")
    rows = [
        (
            slug(d.name), d.replicas, f"{d.devices} {slug(d.hardware)}", d.tp, d.pp, d.attention_dp, d.ep,
            figure(d.requests_per_s), ttft(d), tpot(d),
        )
        for d in mine
    ]  # fmt: skip
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in lines)
