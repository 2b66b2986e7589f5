"""Figures of accuracy in the two READMEs are those of the pages that benchmarks write."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
SPLITS = ("unseen deployment", "unseen model", "unseen system")
POOLS = "prefill and decode apart: `silicon`"


def figures(page, name):
    """Return the cells of the first line of a table whose first cell is this."""
    for line in (REFERENCE / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if cells[0] == name:
            return cells
    pytest.fail(f"{page} has no line {name!r}")


def quoted():
    splits = [figures("accuracy.md", name) for name in SPLITS]
    yield from (f"{cells[2]} %" for cells in splits)
    yield from (f"{float(cells[4]):.0f}" for cells in splits)
    pools = figures("accuracy.md", POOLS)
    yield from (pools[2], pools[4])
    yield figures("ascend-accuracy.md", "all runs")[3].split(" / ")[0] + " %"


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_figures_of_accuracy_are_those_of_the_pages_in_their_order(readme):
    text = (ROOT / readme).read_text(encoding="utf-8")
    at = text.index("docs/reference/accuracy.md")
    for figure in quoted():
        found = text.find(figure, at)
        assert found >= 0, f"{readme} lacks {figure}"
        at = found + len(figure)
