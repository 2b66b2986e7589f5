"""Writes a problem in the CPLEX LP format, always the same way, to read and to compare in tests."""

from collections.abc import Iterable

from planner.milp.model import INFINITY, Milp, Row


def lp_text(milp: Milp, groups: Iterable[str] | None = None) -> str:
    """Return the first goal, the rows (of some groups only, if given) and the variables as LP text."""
    names = [_name(variable.name) for variable in milp.variables]
    goal = milp.goal
    wanted = None if groups is None else set(groups)
    lines = [
        goal.sense,
        f"  {goal.name}: {_terms(dict(enumerate(goal.coefficients.tolist())), names)}",
        "subject to",
    ]
    for row in milp.rows:
        if wanted is None or row.group in wanted:
            lines += [f"  \\ {row.meaning} [{row.unit}]", *_row_lines(row, names)]
    lines.append("bounds")
    lines += [f"  {v.lower:.12g} <= {name} <= {v.upper:.12g}" for v, name in zip(milp.variables, names, strict=True)]
    lines.append("general")
    lines += [f"  {name}" for v, name in zip(milp.variables, names, strict=True) if v.integer]
    return "\n".join([*lines, "end", ""])


def _name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "_.()[]" else "_" for c in text).replace("[", "(").replace("]", ")")


def _terms(coefficients: dict[int, float], names: list[str]) -> str:
    parts = [f"{value:+.12g} {names[i]}" for i, value in sorted(coefficients.items()) if value]
    return " ".join(parts) or "0"


def _row_lines(row: Row, names: list[str]) -> list[str]:
    terms = _terms(dict(row.coefficients), names)
    name = _name(row.name)
    if row.lower == row.upper:
        return [f"  {name}: {terms} = {row.upper:.12g}"]
    lines = []
    if row.lower > -INFINITY:
        lines.append(f"  {name}: {terms} >= {row.lower:.12g}")
    if row.upper < INFINITY:
        lines.append(f"  {name}: {terms} <= {row.upper:.12g}")
    return lines
