"""What all pictures share: colours that colour-blind readers can tell apart, sizes, and how files are written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito, Color Universal Design, 2008.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
GREY = "#888888"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED, YELLOW, BLACK)
MARKERS = "osD^vPX*<>"
_DOTS_PER_INCH = 120
_PARAMETERS: Any = {
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "planner",  # the same picture is the same file
}


@contextmanager
def drawn(folder: Path, name: str, size: tuple[float, float] = (8.0, 4.5)) -> Iterator["Figure"]:
    """Yield an empty figure of ``size`` [inch]; when it is drawn, write ``name.png`` and ``name.svg`` to a folder.

    Raises:
        InputError: matplotlib is not installed, or the folder cannot be written.
    """
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        message = "pictures need matplotlib: pip install 'llm-deployment-planner[plots]'"
        raise InputError.single("--plot", message) from None
    with mpl.rc_context(_PARAMETERS):
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)
        yield figure
        try:
            folder.mkdir(parents=True, exist_ok=True)
            figure.savefig(
                folder / f"{name}.png", dpi=_DOTS_PER_INCH, metadata={"Software": None}, pil_kwargs={"optimize": True}
            )
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
        except OSError as error:
            raise InputError.single(str(folder), f"cannot be written: {error.strerror}") from None


def titled(axes: "Axes", title: str, x: str = "", y: str = "") -> None:
    """Name a chart and its axes; the names of axes carry units."""
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def files(name: str) -> tuple[str, str]:
    """Return the names of the files of a picture."""
    return f"{name}.png", f"{name}.svg"
