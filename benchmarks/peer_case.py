"""What exact composition gains over AIConfigurator's answers, with AIConfigurator's own rates.

    python benchmarks/peer_case.py [--json]

Plans Qwen3-32B-FP8 on fleets of 17 to 38 H200s (4 000 prompt and 500 generated tokens, TTFT 600 ms, TPOT 25 ms) over
the rates per replica that AIConfigurator 0.12 gives, with its rate-matching factors, and prints its `default` answer
beside ours; then the least fleet for 50 request/s. Every figure is one inside the peer's own linear model: nothing here
says how well that model predicts. Ends with 1 where a plan is below the peer's answer or is not proven optimal.
"""

import argparse
import csv
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from planner import load_scenario, solve
from planner.plan import ListedDeployment, Plan

DATA = Path(__file__).parent / "data"
COLUMNS, ANSWERS = "peer_case_qwen3_32b_columns.csv", "peer_case_qwen3_32b_answers.csv"
LABEL = "inside the peer's own linear model"
DEMAND = 50.0  # request/s of the second question
MOST_DEVICES = 64  # more than any fleet for it needs
_ROUNDED = 0.005  # the peer prints its answers with two decimals


class Answer(NamedTuple):
    """The most request/s on a fleet: the peer's answer and ours."""

    devices: int
    peer: float
    ours: float
    plan: str
    proven: bool

    @property
    def gain(self) -> float:
        """Return ours over the peer's, less 1."""
        return self.ours / self.peer - 1

    @property
    def below(self) -> bool:
        """Whether the peer's answer is better by more than its rounding."""
        return self.ours < self.peer - _ROUNDED


class Fleet(NamedTuple):
    """The fewest devices for a rate [request/s]."""

    demand: float
    devices: int
    carries: float
    plan: str
    proven: bool


def planned(devices: int, requests: str, objective: dict[str, str]) -> Plan:
    """Return the plan for a fleet of so many devices over the peer's rates."""
    scenario = {
        "schema_version": 1,
        "name": "peer-case",
        "columns": COLUMNS,
        "inventory": {"h200": {"hardware": "h200-sxm", "devices": devices}},
        "workloads": {"chat": {"requests": requests}},
        "objective": objective,
    }
    return solve(load_scenario(scenario, folder=DATA)).plan


def answers() -> Iterator[Answer]:
    """Yield every fleet that the peer was asked about."""
    with (DATA / ANSWERS).open(newline="") as stream:
        for row in csv.DictReader(stream):
            devices, peer = int(row["devices"]), float(row["aiconfigurator_default_requests_per_s"])
            plan = planned(devices, "max", {"maximize": "requests"})
            yield Answer(devices, peer, plan.predicted.requests_per_s, _composition(plan), _proven(plan))


def least_fleet(demand: float = DEMAND) -> Fleet:
    """Return the fewest devices for a rate."""
    plan = planned(MOST_DEVICES, f"{demand!r} /s", {"minimize": "devices"})
    return Fleet(demand, plan.totals.devices, plan.predicted.requests_per_s, _composition(plan), _proven(plan))


def _composition(plan: Plan) -> str:
    mine = [d for d in plan.deployments if isinstance(d, ListedDeployment)]
    return " + ".join(f"{d.replicas}×{d.role} {d.label}" for d in mine)


def _proven(plan: Plan) -> bool:
    return plan.termination.reason == "optimal"


def lines(found: Sequence[Answer], fleet: Fleet) -> Iterator[str]:
    """One line per fleet, then what is gained."""
    yield f"request/s of Qwen3-32B-FP8 on H200s, {LABEL}"
    yield f"{'devices':>7}  {'peer':>6}  {'ours':>6}  {'gain':>6}  plan"
    for a in found:
        yield f"{a.devices:>7}  {a.peer:>6.2f}  {a.ours:>6.2f}  {a.gain:>+6.1%}  {a.plan}"
    mean, most = _gains(found)
    below = sum(a.below for a in found)
    yield f"gain over {len(found)} fleets: mean {mean:+.1%}, at most {most:+.1%}, below the peer {below} ({LABEL})"
    first = min((a.devices for a in found if a.peer >= fleet.demand), default=None)
    reached = "none of the peer's answers reaches it" if first is None else f"the peer's answers reach it at {first}"
    yield f"least fleet for {fleet.demand:g} request/s: {fleet.devices} devices, {fleet.plan}; {reached} ({LABEL})"


def _gains(found: Sequence[Answer]) -> tuple[float, float]:
    return statistics.fmean(a.gain for a in found), max(a.gain for a in found)


def _data(found: Sequence[Answer], fleet: Fleet) -> dict[str, Any]:
    mean, most = _gains(found)
    return {
        "label": LABEL,
        "fleets": [{**a._asdict(), "gain": a.gain} for a in found],
        "mean_gain": mean,
        "most_gain": most,
        "least_fleet": fleet._asdict(),
    }


def main() -> int:
    """Print the comparison; return 1 where the peer's answer is better, or ours is not proven."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    options = parser.parse_args()
    found, fleet = list(answers()), least_fleet()
    text = json.dumps(_data(found, fleet), indent=2) if options.json else "\n".join(lines(found, fleet))
    sys.stdout.write(text + "\n")
    return int(any(a.below or not a.proven for a in found) or not fleet.proven)


if __name__ == "__main__":
    sys.exit(main())
