"""What would change a plan: a tornado of single numbers, and a map of the best plan over two of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from planner.exporters.plots.style import BLACK, BLUE, ORANGE, PALETTE, RED, drawn, titled

_ROW = 0.42  # inch
_LONGEST = 120  # characters of a plan in a legend
_PALE = 0.75
_OTHERS = "#dddddd"


def tornado_picture(
    folder: Path,
    title: str,
    unit: str,
    goal: float,
    names: Sequence[str],
    ends: Sequence[tuple[float | None, float | None]],
    factors: Sequence[tuple[float, float]],
    flips: Sequence[tuple[bool, bool]],
) -> None:
    """Draw the goal with each number at its ends to ``tornado.png`` and ``tornado.svg`` in a folder.

    Args:
        folder: made if it is not there.
        title: of the chart.
        unit: name and unit of the goal.
        goal: its value as things stand.
        names: of the numbers.
        ends: the goal at the low and the high end of each, None where there is no plan.
        factors: the ends themselves.
        flips: whether another plan is best there.

    Raises:
        InputError: matplotlib is not installed, or the folder cannot be written.
    """
    spans = [max(abs((goal if e is None else e) - goal) for e in pair) for pair in ends]
    order = sorted(range(len(names)), key=lambda i: (any(e is None for e in ends[i]), spans[i]))
    with drawn(folder, "tornado", (9.0, 1.4 + _ROW * len(names))) as figure:
        axes, named = figure.subplots(), set[int]()
        for row, i in enumerate(order):
            if not spans[i] and None not in ends[i]:
                axes.annotate("no change", (goal, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
                continue
            for side, colour in ((0, BLUE), (1, ORANGE)):
                end = ends[i][side]
                label = None if side in named else ("smaller", "larger")[side]
                named.add(side)
                if end is None:
                    axes.scatter([goal], [row + (0.12, -0.12)[side]], marker="x", color=RED, zorder=3)
                    continue
                axes.barh(row, end - goal, left=goal, height=0.62, color=colour, label=label)
                mark = " *" if flips[i][side] else ""
                beyond = end >= goal
                axes.annotate(
                    f"× {factors[i][side]:g}{mark}", (end, row), (4 if beyond else -4, 0), textcoords="offset points",
                    va="center", ha="left" if beyond else "right", fontsize=8,
                )  # fmt: skip
        axes.axvline(goal, color=BLACK, lw=1)
        axes.set_yticks(range(len(order)), [names[i] for i in order])
        axes.set_ylim(-0.6, len(order) - 0.4)
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.12)
        axes.legend(loc="lower right", title="number made")
        note = "  (* another plan is best there; × no plan)" if any(map(any, flips)) else ""
        titled(axes, title, f"best {unit}{note}")


def map_picture(
    folder: Path,
    title: str,
    names: tuple[str, str],
    axes_values: tuple[Sequence[float], Sequence[float]],
    plan: Sequence[Sequence[int]],
    plans: Sequence[str],
) -> None:
    """Draw which plan is best over factors of two numbers to ``flip_map.png`` and ``flip_map.svg`` in a folder.

    The plans that are best over most of the map have a colour each, the others share one.

    Args:
        folder: made if it is not there.
        title: of the chart.
        names: of the two numbers, first across.
        axes_values: factors of both, ascending.
        plan: the number of the best plan, shape (second, first).
        plans: what the numbers stand for.

    Raises:
        InputError: matplotlib is not installed, or the folder cannot be written.
    """
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.patches import Patch

    numbers, shown = coloured(plan, plans)
    colours = [*PALETTE, _OTHERS][: len(shown)]
    with drawn(folder, "flip_map", (9.0, 5.4 + 0.2 * len(shown))) as figure:
        axes = figure.subplots()
        norm = BoundaryNorm(np.arange(len(shown) + 1) - 0.5, len(shown))
        axes.pcolormesh(*axes_values, numbers, cmap=ListedColormap(colours), norm=norm, shading="nearest", alpha=_PALE)
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis, values in zip((axes.xaxis, axes.yaxis), axes_values, strict=True):
            ticks = [float(f"{v:.2g}") for v in np.geomspace(values[0], values[-1], 5)]
            axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
            axis.set_ticks([], minor=True)
        axes.grid(visible=False)
        axes.plot([1], [1], marker="o", color=BLACK, ms=8, mfc="none")
        axes.annotate("as it stands", (1, 1), (7, 5), textcoords="offset points", fontsize=9)
        handles = [Patch(color=c, alpha=_PALE, label=_short(p)) for c, p in zip(colours, shown, strict=True)]
        figure.legend(handles=handles, loc="outside lower left", fontsize=9)
        titled(axes, title, f"factor of {names[0]}", f"factor of {names[1]}")


def coloured(plan: Sequence[Sequence[int]], plans: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Return the number of a colour for every place, and what each is for: those of most places, then all others.

    Args:
        plan: the number of the plan at every place, shape (second, first).
        plans: what the numbers stand for; the first is kept apart however small it is.
    """
    places = np.array(plan)
    counts = np.bincount(places.ravel(), minlength=len(plans))
    order = sorted(range(len(plans)), key=lambda i: (i > 0, -counts[i]))
    place = np.empty(len(plans), dtype=np.int64)
    place[order] = np.minimum(np.arange(len(plans)), len(PALETTE))
    shown = [plans[i] for i in order[: len(PALETTE)]]
    others = order[len(PALETTE) :]
    if others:
        shown.append(
            f"{len(others)} other{'s' * (len(others) > 1)}, {counts[others].sum() / places.size:.1%} of the map"
        )
    return place[places], shown


def _short(plan: str) -> str:
    return plan if len(plan) <= _LONGEST else plan[: _LONGEST - 1] + "…"
