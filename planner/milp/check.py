"""Re-checks an answer without the solver: bounds, integrality, row residuals."""

import numpy as np

from planner.milp.model import Milp, sparse
from planner.table import Floats

TOLERANCE = 1e-6


def violations(milp: Milp, point: Floats, tolerance: float = TOLERANCE) -> list[str]:
    """Return every way a point breaks the problem, relative to the size of each row; empty if it is feasible."""
    found: list[str] = []
    for variable, value in zip(milp.variables, point, strict=True):
        if not variable.lower - tolerance <= value <= variable.upper + tolerance:
            found.append(f"{variable.name} = {value:g} is outside [{variable.lower:g}, {variable.upper:g}]")
        if variable.integer and abs(value - round(value)) > tolerance:
            found.append(f"{variable.name} = {value:g} is not a whole number")
    matrix = sparse(milp)
    terms = matrix.value * point[matrix.column]
    for number, row in enumerate(milp.rows):
        part = terms[matrix.start[number] : matrix.start[number + 1]]
        size = max(1.0, float(np.abs(part).max(initial=0.0)))
        if not row.lower - tolerance * size <= float(part.sum()) <= row.upper + tolerance * size:
            found.append(f"{row.name}: {part.sum():g} is outside [{row.lower:g}, {row.upper:g}] {row.unit}")
    return found


def rounded(milp: Milp, point: Floats) -> Floats:
    """Return the point with integer variables exactly whole."""
    whole = np.array([variable.integer for variable in milp.variables], dtype=bool)
    return np.where(whole, np.round(point), point)
