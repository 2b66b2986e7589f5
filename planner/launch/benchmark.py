"""Benchmark commands that hold a plan to its word, each beside what is predicted for exactly its load."""

import shlex
from collections.abc import Iterator, Mapping, Sequence

from planner.launch.engine import Engine, Load, checkpoint
from planner.launch.expected import of_target, together
from planner.launch.facts import Expected, Facts, Latency
from planner.launch.servers import FRONT, Target, clients_of_one, slug
from planner.launch.vendor import ASCEND_DRIVER, image
from planner.plan import Deployment, Plan
from planner.text import figure

PLAN = "plan.json"
PREDICTED = "predicted (in parentheses the 80 % interval):"


def benchmarks(plan: Plan, facts: Facts, engine: Engine, found: Sequence[Target]) -> dict[str, str]:
    """Return benchmark scripts by path: of each workload at its planned rate, of a replica with its planned clients."""
    written = {}
    for n, workload in enumerate(dict.fromkeys(target.workload for target in found)):
        mine = [target for target in found if target.workload == workload]
        whole = load_of(engine, facts, mine, f"http://${{FRONT_ADDRESS}}:{FRONT + n}")
        head = [
            f"{slug(workload)} at the planned {figure(whole.rate)} request/s, through its front, {PREDICTED}",
            *figures(plan, mine),
        ]
        written[f"benchmark/{slug(workload)}.sh"] = _script(engine, mine[0], facts, whole, head)
        for target in mine:
            if target.mixed:
                d = _deployment(target)
                result = engine.result.format(name=target.name)
                one = whole._replace(url=target.mixed[0].url, rate=0.0, clients=clients_of_one(d), result=result)
                head = [
                    f"one replica of {target.name}, loaded by {one.clients} clients in a loop, {PREDICTED}",
                    _line("", facts.loops[d.name]),
                ]
                written[f"benchmark/{target.name}.sh"] = _script(engine, target, facts, one, head)
    return written


def load_of(engine: Engine, facts: Facts, mine: Sequence[Target], url: str) -> Load:
    """Return the planned load of a workload, on all that serves it."""
    d = _deployment(mine[0])
    model, lengths = facts.models[d.model], facts.workloads[d.workload]
    weights, _ = checkpoint(d, facts, engine.online)
    return Load(
        url=url,
        model=engine.served(model.repository),
        tokenizer=weights if weights.startswith("/") else model.repository,
        trusted=model.remote_code,
        input_tokens=lengths.input_tokens,
        output_tokens=lengths.output_tokens,
        rate=sum(target.rate for target in mine),
        clients=max(1, round(sum(target.clients for target in mine))),
        result=engine.result.format(name=slug(d.workload)),
    )


def figures(plan: Plan, found: Sequence[Target]) -> Iterator[str]:
    """Yield what requests are predicted to see at the planned rate: of all targets, and of each where they are more."""
    each = {target.name: of_target(plan, target) for target in found}
    yield _line("", together(list(each.values())))
    if len(each) > 1:
        yield from (_line(f"of these {name}: ", expected) for name, expected in each.items())


def _line(name: str, expected: Expected) -> str:
    latencies = f"mean TTFT {written(expected.ttft)}, mean TPOT {written(expected.tpot)}"
    return f"{name}{figure(expected.requests_per_s)} request/s, {latencies}"


def written(latency: Latency) -> str:
    """Return a latency with its interval, where that is known."""
    if latency.p10 is None or latency.p90 is None:
        return f"{figure(latency.mean)} ms"
    return f"{figure(latency.mean)} ms ({figure(latency.p10)} to {figure(latency.p90)})"


def _deployment(target: Target) -> Deployment:
    return (target.mixed or target.prefill)[0].deployment


def _script(engine: Engine, target: Target, facts: Facts, load: Load, head: Sequence[str]) -> str:
    d = _deployment(target)
    vendor = facts.inventory[d.inventory].vendor
    driver = ASCEND_DRIVER if vendor == "Huawei" and not engine.bench_image else ()
    program, *words = [_quoted(word) for word in engine.bench(load)]
    mounts = {"$PWD": "/results", "$HF_CACHE": "/root/.cache/huggingface", "$MODELS": "/models:ro"}
    mounts |= {path: f"{path}:ro" for path in driver}
    lines = [
        "#!/bin/sh",
        *(f"# {line}" for line in head),
        "set -eu",
        'cd "$(dirname "$0")"',
        "set -a && . ../hosts.env && set +a",
        "docker run --rm --network host --env HF_TOKEN --workdir /results \\",
        *(f'  --volume "{path}:{inside}" \\' for path, inside in mounts.items()),
        f"  --entrypoint {program} {engine.bench_image or image(engine, d.hardware, vendor)} \\",
        f"  {' '.join(words)}",
        f'echo "now: planner compare $(dirname "$PWD")/{PLAN} $PWD/{load.result}"',
    ]
    return "\n".join([*lines, ""])


def _quoted(word: str) -> str:
    """Quote a word for a shell, but let variables be filled in."""
    return f'"{word}"' if "${" in word else shlex.quote(word)


def by_deployment(plan: Plan, found: Sequence[Target]) -> Mapping[str, Expected]:
    """Return what is predicted of each target's requests, by the names of its deployments."""
    return {
        server.deployment.name: of_target(plan, target)
        for target in found
        for server in (*target.mixed, *target.prefill, *target.decode)
    }
