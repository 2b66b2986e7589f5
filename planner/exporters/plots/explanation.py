"""Pictures of an explained plan: where the average step goes, and its operators on the roofline of the device."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from planner.explanation import DeploymentExplained, Explanation, Part, Roofline, RooflinePoint
from planner.exporters.plots.style import BLUE, GREEN, GREY, MARKERS, ORANGE, PALETTE, PURPLE, RED, drawn, titled
from planner.table import RESOURCE_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"compute": BLUE, "vector": GREEN, "hbm_bandwidth": ORANGE, "link_bandwidth": PURPLE, "latency": RED}
_OTHER = ("host, drafts and the rest", GREY)
_HATCH = "///"
_BARS = 12  # operators of their own; what is left is one bar
_NAMED = 0.04  # share of the step from which a point has a name
_TOGETHER = 0.05  # share of the picture within which points have one name
_TERA = 1e12
_SMALL = 8.5  # point: size of a name, whose letters and lines are about so much of it wide and high
_LETTER, _LINE = 0.55, 1.25
_ASIDE, _BELOW = 14.0, 8.0  # point: a name from its point
_NEAR = 4.0  # point: a name from another point
_SIDES = ((1, -1), (-1, -1), (-1, 1), (1, 1))  # of a point for its name: roofs have theirs at the upper right
_Box = tuple[float, float, float, float]


def plot_explanation(explanation: Explanation, folder: Path) -> list[Path]:
    """Draw both pictures of every deployment into a folder, and return the files.

    Raises:
        InputError: matplotlib is not installed, or the folder cannot be written.
    """
    written = []
    for deployment in explanation.deployments:
        written += [*_budget(deployment, folder), *_roofline(deployment, folder)]
    return written


def _budget(d: DeploymentExplained, folder: Path) -> list[Path]:
    """One bar per operator over all steps, coloured by what bounds it."""
    bars = _bars(d.parts)
    name = f"budget_{d.name}"
    with drawn(folder, name, (8.5, 1.6 + 0.32 * len(bars))) as figure:
        from matplotlib.patches import Patch

        axes = figure.subplots()
        for row, (_, parts) in enumerate(bars):
            left = 0.0
            for part in parts:
                hatch = _HATCH if part.step == "decode" and "prompt" in d.steps else None
                axes.barh(row, part.ms, 0.72, left, color=_colour(part), edgecolor="white", linewidth=0.8, hatch=hatch)
                left += part.ms
            share = sum(part.share for part in parts)
            axes.annotate(f"{share:.1%}", (max(left, 0.0), row), (4, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(bars)), [label for label, _ in bars])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.1)
        titled(axes, f"{d.name}: where the average step of {d.step_ms:.1f} ms goes", "time in the average step [ms]")
        present = {part.bound_by for _, parts in bars for part in parts}
        kinds = [(RESOURCE_NAMES[name], colour) for name, colour in _COLOURS.items() if name in present]
        kinds += [_OTHER] if present - set(_COLOURS) else []
        handles = [Patch(color=colour, label=label) for label, colour in kinds]
        if {"decode", "prompt"} <= set(d.steps):
            handles.append(Patch(facecolor=GREY, edgecolor="white", hatch=_HATCH, label="in steps without prompts"))
        axes.legend(handles=handles, title="bound by", loc="lower right")
    return [folder / file for file in (f"{name}.png", f"{name}.svg")]


def _bars(parts: Sequence[Part]) -> list[tuple[str, list[Part]]]:
    """Return labels with the parts of each bar, steps side by side, the longest bars first."""
    grouped: dict[str, list[Part]] = {}
    for part in parts:
        where = f" ({part.layer})" if part.layer not in ("", part.operator) else ""
        grouped.setdefault(f"{part.operator.replace('_', ' ')}{where}", []).append(part)
    ordered = sorted(grouped.items(), key=lambda pair: -sum(part.ms for part in pair[1]))
    head, tail = ordered[:_BARS], [part for _, more in ordered[_BARS:] for part in more]
    if not tail:
        return head
    rest = Part("", "", "", sum(p.ms for p in tail), sum(p.share for p in tail), {}, "")
    return [*head, (f"{len(ordered) - _BARS} others", [rest])]


def _colour(part: Part) -> str:
    return _COLOURS.get(part.bound_by, GREY)


def _roofline(d: DeploymentExplained, folder: Path) -> list[Path]:
    """Operators with matrix work over the roofs of the data sheet; the area of a point is its share of the step."""
    if not d.roofline.points:
        return []
    name = f"roofline_{d.name}"
    with drawn(folder, name, (8.5, 5.2)) as figure:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        axes = figure.subplots()
        points = d.roofline.points
        low = min(point.flop_per_byte for point in points) / 2
        high = max(max(point.flop_per_byte for point in points) * 3, _ridge(d.roofline) * 4)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(low, high)
        _roofs(axes, d.roofline, low, high)
        _points(axes, points)
        axes.set_ylim(bottom=min(point.reached_flop_per_s for point in points) / _TERA / 3)
        _named(axes, points)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
        titled(
            axes,
            f"{d.name}: operators on the roofline of a device",
            "arithmetic intensity [flop / byte of device memory]",
            "reached rate [Tflop/s]",
        )
    return [folder / file for file in (f"{name}.png", f"{name}.svg")]


def _ridge(roofline: Roofline) -> float:
    """Intensity at which the highest roof meets the memory's [flop/byte]."""
    return max(roofline.peak_flop_per_s.values()) / roofline.bandwidth_byte_per_s


def _roofs(axes: "Axes", roofline: Roofline, low: float, high: float) -> None:
    """Memory's slope up to the highest matrix rate, and a roof per rate with the formats that have it."""
    memory = roofline.bandwidth_byte_per_s / _TERA
    ridge = _ridge(roofline)
    axes.plot([low, ridge], [low * memory, ridge * memory], color=GREY, linewidth=1.5)
    axes.text(
        low * 1.5, low * 1.5 * memory * 1.12, f"memory {memory:.3g} TB/s", color=GREY,
        rotation=math.degrees(math.atan(memory)), rotation_mode="anchor", transform_rotates_text=True,
    )  # fmt: skip
    formats: dict[float, list[str]] = {}
    for format_, rate in roofline.peak_flop_per_s.items():
        formats.setdefault(rate / _TERA, []).append(format_)
    for rate, names in formats.items():
        axes.plot([rate / memory, high], [rate, rate], color=GREY, linewidth=1.5)
        axes.annotate(
            f"{', '.join(names)} {rate:.4g} Tflop/s", (high, rate), (-4, 3), textcoords="offset points", color=GREY,
            ha="right",
        )  # fmt: skip


def _points(axes: "Axes", points: Sequence[RooflinePoint]) -> None:
    from matplotlib.lines import Line2D

    kinds = list(dict.fromkeys((point.step, point.layer) for point in points))
    layers = list(dict.fromkeys(layer for _, layer in kinds))
    steps = list(dict.fromkeys(step for step, _ in kinds))
    handles = []
    for step, layer in kinds:
        mine = [point for point in points if (point.step, point.layer) == (step, layer)]
        colour, marker = PALETTE[layers.index(layer) % len(PALETTE)], MARKERS[steps.index(step) % len(MARKERS)]
        x = [point.flop_per_byte for point in mine]
        axes.scatter(
            x, [point.reached_flop_per_s / _TERA for point in mine], s=[30 + 1200 * point.share for point in mine],
            color=colour, marker=marker, alpha=0.75, edgecolors="white", linewidths=0.8, zorder=3,
        )  # fmt: skip
        axes.scatter(x, [_allowed(point) / _TERA for point in mine], marker="_", s=60, color=colour, zorder=2)
        handles.append(
            Line2D([], [], color=colour, marker=marker, linestyle="", markersize=8, label=f"{step}: {layer}")
        )
    handles.append(Line2D([], [], color=GREY, marker="_", linestyle="", markersize=8, label="what efficiencies allow"))
    axes.legend(handles=handles, loc="lower right", title="step: layer (area: share of the step)")


def _allowed(point: RooflinePoint) -> float:
    """Return the rate that an operator's efficiencies allow, were memory and matrix units all it needs [flop/s]."""
    return min(point.compute_roof_flop_per_s, point.flop_per_byte * point.memory_roof_byte_per_s)


def _named(axes: "Axes", points: Sequence[RooflinePoint]) -> None:
    """Name the points that take much time, once for all that stand together."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    groups: list[tuple[tuple[float, float], list[str]]] = []
    for point in sorted(points, key=lambda one: -one.share):
        place = point.flop_per_byte, point.reached_flop_per_s / _TERA
        if point.share < _NAMED:
            continue
        for other, names in groups:
            apart = math.log(place[0] / other[0]) / math.log(right / left), math.log(place[1] / other[1])
            if math.hypot(apart[0], apart[1] / math.log(top / bottom)) < _TOGETHER:
                names.append(point.operator)
                break
        else:
            groups.append((place, [point.operator]))
    every = [(point.flop_per_byte, point.reached_flop_per_s / _TERA) for point in points]
    texts = ["\n".join(name.replace("_", " ") for name in dict.fromkeys(names)) for _, names in groups]
    _labels(axes, [(place, text) for (place, _), text in zip(groups, texts, strict=True)], every)


def _labels(
    axes: "Axes", wanted: Sequence[tuple[tuple[float, float], str]], points: Sequence[tuple[float, float]]
) -> None:
    """Write texts beside places, each at the side where it covers fewest points and other texts."""
    in_points = 72 / axes.figure.dpi  # of a pixel

    def drawn_at(place: tuple[float, float]) -> tuple[float, float]:
        x, y = (axes.transData.transform(place) * in_points).tolist()
        return x, y

    places = [drawn_at(place) for place in points]
    boxes: list[_Box] = []
    for place, text in wanted:
        lines = text.split("\n")
        size = max(map(len, lines)) * _LETTER * _SMALL, len(lines) * _LINE * _SMALL
        sides = [(side, _beside(drawn_at(place), size, side)) for side in _SIDES]
        covered = [
            sum(_within(other, box) for other in places) + sum(_overlap(box, other) for other in boxes)
            for _, box in sides
        ]
        (right, up), box = sides[covered.index(min(covered))]
        boxes.append(box)
        axes.annotate(
            text, place, (_ASIDE * right, _BELOW * up), textcoords="offset points", fontsize=_SMALL, zorder=4,
            ha="left" if right > 0 else "right", va="bottom" if up > 0 else "top",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
        )  # fmt: skip


def _beside(place: tuple[float, float], size: tuple[float, float], side: tuple[int, int]) -> _Box:
    """Return where a text of a size goes: left, bottom, right and top [point]."""
    (x, y), (width, height), (right, up) = place, size, side
    left, bottom = x + _ASIDE * right - (0 if right > 0 else width), y + _BELOW * up - (0 if up > 0 else height)
    return left, bottom, left + width, bottom + height


def _within(place: tuple[float, float], box: _Box) -> bool:
    return box[0] - _NEAR <= place[0] <= box[2] + _NEAR and box[1] - _NEAR <= place[1] <= box[3] + _NEAR


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
