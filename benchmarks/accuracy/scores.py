"""Figures of predictions against measured rows: errors, regret of choices, coverage of intervals."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

LIMITS_MS = (15, 25, 50, 100)
_GROUP = ("model", "system", "isl", "osl")
_DEPLOYMENT = ("backend", "precision", "devices", "tp", "pp", "attention_dp", "moe_tp", "ep")
_SIDES = ("prefill", "decode")
_POOLS = ("backend", "precision", *(f"{side}_{name}" for side in _SIDES for name in
          ("replicas", "tp", "attention_dp", "moe_tp", "ep")))  # fmt: skip

Row = Mapping[str, str]


class Guess(NamedTuple):
    """A prediction of one row [ms]; quantiles are those of ``planner predict``, equal to it where there are none."""

    ttft: float
    tpot: float
    ttft_p10: float
    ttft_p90: float
    tpot_p10: float
    tpot_p90: float


Guesses = Mapping[str, Guess]


def core(row: Row) -> bool:
    """Tell whether a row is neither suspected of speculation nor anomalous."""
    return row["maybe_speculative"] != "True" and row["anomalous"] != "True"


def devices(row: Row) -> float:
    """Return the devices of a replica, or of all replicas of both pools."""
    if "devices" in row:
        return float(row["devices"])
    return sum(float(row[f"{side}_replicas"]) * float(row[f"{side}_devices_per_replica"]) for side in _SIDES)


def deployment(row: Row) -> tuple[str, ...]:
    """Return what a choice between deployments fixes; the concurrency is tuned afterwards."""
    return tuple(row[name] for name in (_DEPLOYMENT if "devices" in row else _POOLS))


def throughput(row: Row, ttft_ms: float, tpot_ms: float) -> float:
    """Return output tokens per second and device of a closed loop."""
    osl = float(row["osl"])
    return float(row["concurrency"]) * osl / ((ttft_ms + osl * tpot_ms) / 1e3) / devices(row)


def measured_throughput(row: Row) -> float:
    """Return what was measured, in output tokens per second and device."""
    return throughput(row, float(row["ttft_ms"]), float(row["tpot_ms"]))


def errors(rows: Sequence[Row], guesses: Guesses) -> dict[str, float]:
    """Return median and mean error of both latencies in percent; a row without a prediction counts as 100 %."""
    found = {}
    for name in ("tpot", "ttft"):
        sizes = [
            100 * abs(getattr(guesses[r["id"]], name) / float(r[f"{name}_ms"]) - 1) if r["id"] in guesses else 100.0
            for r in rows
        ]
        found |= {f"{name}_median": statistics.median(sizes), f"{name}_mean": statistics.fmean(sizes)}
    return found


def groups(rows: Iterable[Row]) -> list[dict[tuple[str, ...], list[Row]]]:
    """Return rows of one model, system and lengths by deployment."""
    found: dict[tuple[str, ...], dict[tuple[str, ...], list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[tuple(row[c] for c in _GROUP)][deployment(row)].append(row)
    return list(found.values())


def regret(rows: Sequence[Row], guesses: Guesses) -> float:
    """Return what a choice of deployment loses of the best throughput per device at TPOT limits, mean in percent.

    The deployment is chosen by prediction, then its concurrency is tuned on what was measured.
    """
    lost = []
    for deployments in groups(r for r in rows if r["id"] in guesses):
        for limit in LIMITS_MS:
            expected, real = {}, {}
            for name, members in deployments.items():
                kept = [r for r in members if guesses[r["id"]].tpot <= limit]
                expected[name] = max((_expected(r, guesses) for r in kept), default=0.0)
                real[name] = max((measured_throughput(r) for r in members if float(r["tpot_ms"]) <= limit), default=0.0)
            best = max(real.values())
            if len(real) > 1 and best > 0:
                lost.append(1 - real[max(expected, key=lambda name: expected[name])] / best)
    return 100 * statistics.fmean(lost) if lost else float("nan")


def _expected(row: Row, guesses: Guesses) -> float:
    return throughput(row, guesses[row["id"]].ttft, guesses[row["id"]].tpot)


class Selected(NamedTuple):
    """Rows that predictions pick as best under a limit of TPOT [ms]."""

    row: Row
    guess: Guess
    limit: float


def selected(rows: Sequence[Row], guesses: Guesses, *, upper: bool = False) -> list[Selected]:
    """Return the pick of every group and limit: deployment and concurrency of best expected throughput per device.

    ``upper``: the ninetieth percentile must hold the limit, not the expected value.
    """
    picks = []
    for deployments in groups(r for r in rows if r["id"] in guesses):
        members = [r for found in deployments.values() for r in found]
        for limit in LIMITS_MS:
            kept = [r for r in members if getattr(guesses[r["id"]], "tpot_p90" if upper else "tpot") <= limit]
            if len(deployments) > 1 and kept:
                best = max(kept, key=lambda r: _expected(r, guesses))
                picks.append(Selected(best, guesses[best["id"]], limit))
    return picks


def optimism(picks: Sequence[Selected]) -> float:
    """Return how much more throughput was expected of picks than they had, mean in percent (the winner's curse)."""
    ratios = [throughput(p.row, p.guess.ttft, p.guess.tpot) / measured_throughput(p.row) for p in picks]
    return 100 * (statistics.fmean(ratios) - 1)


def corrected(picks: Sequence[Selected]) -> float:
    """Return what is left of optimism once the mean excess of all other groups' picks is taken off, in percent."""
    logs: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for p in picks:
        ratio = throughput(p.row, p.guess.ttft, p.guess.tpot) / measured_throughput(p.row)
        logs[tuple(p.row[c] for c in _GROUP)].append(math.log(ratio))
    left = [
        value - statistics.fmean(other for name, found in logs.items() if name != mine for other in found)
        for mine, values in logs.items()
        for value in values
    ]
    return 100 * math.expm1(statistics.fmean(left))


def violations(picks: Sequence[Selected]) -> float:
    """Return how many picks miss their limit, in percent."""
    return 100 * statistics.fmean(float(p.row["tpot_ms"]) > p.limit for p in picks)


def coverage(pairs: Iterable[tuple[Row, Guess]], name: str) -> float:
    """Return how many measured values lie between the tenth and the ninetieth percentile, in percent."""
    inside = [getattr(g, f"{name}_p10") <= float(r[f"{name}_ms"]) <= getattr(g, f"{name}_p90") for r, g in pairs]
    return 100 * statistics.fmean(inside)
