"""The frontier of a case: two metrics as a chart, a third as colour."""

from collections.abc import Sequence
from pathlib import Path

from planner.exporters.plots.style import BLACK, BLUE, GREY, ORANGE, drawn, titled


def pareto_picture(
    folder: Path,
    title: str,
    axes_names: Sequence[str],
    values: Sequence[Sequence[float]],
    *,
    supported: Sequence[bool],
    knee: int | None,
    more: bool,
) -> None:
    """Draw plans by two or three metrics to ``pareto.png`` and ``pareto.svg`` in a folder.

    Args:
        folder: made if it is not there.
        title: of the chart.
        axes_names: names of the metrics with their units.
        values: one sequence of metrics per plan.
        supported: of each plan, whether some weighting makes it best.
        knee: the number of the plan at the knee.
        more: whether more of the first metric is better; between two plans what the worse of them reaches holds.

    Raises:
        InputError: matplotlib is not installed, or the folder cannot be written.
    """
    with drawn(folder, "pareto") as figure:
        axes = figure.subplots()
        x, y = ([point[k] for point in values] for k in (0, 1))
        if len(axes_names) > 2:
            dots = axes.scatter(x, y, c=[point[2] for point in values], cmap="viridis", s=46, edgecolors=BLACK, lw=0.5)
            figure.colorbar(dots, ax=axes, label=axes_names[2])
        else:
            axes.plot(x, y, color=GREY, lw=1, drawstyle="steps-pre" if more else "steps-post", zorder=1)
            for chosen, colour, label in ((True, BLUE, "on the convex hull"), (False, ORANGE, "inside it")):
                mine = [i for i, flag in enumerate(supported) if flag == chosen]
                if mine:
                    axes.scatter([x[i] for i in mine], [y[i] for i in mine], color=colour, s=28, label=label, zorder=2)
        if knee is not None:
            axes.scatter([x[knee]], [y[knee]], facecolors="none", edgecolors=BLACK, s=150, lw=1.5, label="knee")
        if len(axes_names) == 2 or knee is not None:
            axes.legend(loc="best")
        titled(axes, title, axes_names[0], axes_names[1])
