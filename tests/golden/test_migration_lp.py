"""The rows of a migration, written out; `pytest tests/golden --update-golden` writes them anew."""

from pathlib import Path

from formulations.migration import build
from planner.migration import Arriving, Kind, Migration, Node, Standing
from planner.milp.lp_text import lp_text

FILE = Path(__file__).parent / "lp" / "migration.lp"
GROUPS = ("left", "arrived", "room", "service", "prefill", "decode")


def test_rows_are_as_written_down(request):
    """A mixed replica and a pair stand on two nodes; a mixed replica of twice the size comes instead of the first."""
    old, new = Kind("old", "chat", "mixed", 2, 3.0, 1), Kind("new", "chat", "mixed", 4, 7.0, 2)
    sides = [
        Standing(Kind(role, "chat", role, 1, rate, 1), (1,), 1) for role, rate in (("prefill", 5.0), ("decode", 4.0))
    ]
    nodes = (Node("h100", 1, 4), Node("h100", 2, 4))
    arriving = (Arriving(new, 1, ((0,), (1,))),)
    move = Migration(nodes, (Standing(old, (0,), 1),), tuple(sides), arriving, {"chat": 4.0})
    milp = build(move, 3).milp
    assert {row.group for row in milp.rows} == set(GROUPS)
    assert all(row.meaning and row.unit for row in milp.rows)
    text = lp_text(milp, GROUPS)
    if request.config.getoption("--update-golden"):
        FILE.write_text(text, encoding="utf-8")
    assert text == FILE.read_text(encoding="utf-8")
