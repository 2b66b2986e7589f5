"""Errors on public GPU figures, which no calibration was fitted to, by quantity and by set of efficiencies."""

import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from measurement_rows import load
from measurement_work import TPOT, TTFT
from public_measurements import Outcome, Planner, outcomes

EFFICIENCIES = ("textbook", "operators", "silicon")
HEADERS = ("quantity", "figures", *(f"`{name}`" for name in EFFICIENCIES))


def compared(efficiencies: str) -> dict[str, list[float]]:
    """Return signed errors in percent of every public GPU figure that the cost model expresses, by quantity."""
    gpu = [m for m in load() if m.family == "GPU"]
    found: dict[str, list[float]] = defaultdict(list)
    for outcome in outcomes(gpu, Planner(efficiencies)):
        if _answered(outcome):
            assert outcome.case is not None
            found[outcome.case.quantity].append(outcome.error)
    return found


def _answered(outcome: Outcome) -> bool:
    return outcome.case is not None and outcome.predicted is not None


def sizes(errors: Sequence[float]) -> tuple[float, float]:
    """Return median and mean size."""
    found = [abs(error) for error in errors]
    return statistics.median(found), statistics.fmean(found)


def serving(errors: dict[str, list[float]]) -> dict[str, tuple[int, float, float]]:
    """Return how many figures of TPOT and TTFT there are, and median and mean error of each."""
    return {
        name: (len(errors[quantity]), *sizes(errors[quantity])) for name, quantity in (("tpot", TPOT), ("ttft", TTFT))
    }


def quantities(found: dict[str, dict[str, list[float]]]) -> Iterator[list[str]]:
    """Yield one line per quantity: its figures, then median / mean (bias) by efficiencies."""
    for quantity, first in found[EFFICIENCIES[0]].items():
        cells = []
        for name in EFFICIENCIES:
            errors = found[name][quantity]
            median, mean = sizes(errors)
            cells.append(f"{median:.1f} / {mean:.1f} ({statistics.median(errors):+.0f})")
        yield [quantity, str(len(first)), *cells]
