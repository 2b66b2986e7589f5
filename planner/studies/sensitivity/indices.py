"""Global sensitivity over ranges: Sobol indices and Morris screening, by SALib over any points' results."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from planner.errors import InputError
from planner.table import Floats
from planner.text import aligned

Ranges = Sequence[tuple[float, float]]
Method = Literal["sobol", "morris"]
_LEVELS = 4  # of a Morris trajectory
_LEAST = {"sobol": 8, "morris": 4}  # base samples, and trajectories


class Index(NamedTuple):
    """How much of an output's spread a parameter makes, by name of the measure, with half a 95 % interval each.

    Sobol: ``S1`` alone, ``ST`` with all interactions (Sobol, Math. Comput. Simul. 55, 2001; Saltelli et al., Comput.
    Phys. Commun. 181, 2010). Morris: ``mu_star``, the mean size of an elementary effect over the range, and ``sigma``,
    how much it varies (Morris, Technometrics 33(2), 1991; Campolongo et al., Environ. Model. Softw. 22, 2007).
    """

    parameter: str
    measures: Mapping[str, float]
    half_widths: Mapping[str, float]

    def as_data(self) -> dict[str, Any]:
        """Return it as JSON data."""
        halves = {f"{name}_half_width": value for name, value in self.half_widths.items()}
        return {"parameter": self.parameter, **self.measures, **halves}


def index_lines(title: str, found: Sequence[Index], method: Method, least: float = -np.inf) -> list[str]:
    """Return a table of the indices from ``least`` on, the largest first; of an output that never changes, none."""
    measured = [index for index in found if index.measures]
    if not measured:
        return []
    names = list(measured[0].measures)
    by = names[-1] if method == "sobol" else names[0]
    size = max(index.measures[by] for index in measured) if method == "morris" else 1.0
    shown = sorted((i for i in measured if i.measures[by] >= least * size), key=lambda i: -i.measures[by])
    rows = [[index.parameter, *(_measure(index, name) for name in names)] for index in shown]
    return aligned([title, *names], rows, [title])


def _measure(index: Index, name: str) -> str:
    half = f" ± {index.half_widths[name]:.3f}" if name in index.half_widths else ""
    return f"{index.measures[name]:.3f}{half}"


def points_for(method: Method, names: Sequence[str], ranges: Ranges, most: int, seed: int) -> Floats:
    """Return at most ``most`` points of a design, shape (points, parameters); the same for a seed.

    Raises:
        InputError: so few points tell nothing.
    """
    problem = _problem(names, ranges)
    each = len(names) + (2 if method == "sobol" else 1)
    count = most // each
    if count < _LEAST[method]:
        message = f"{method} over {len(names)} parameters needs {each * _LEAST[method]} samples or more (got {most})"
        raise InputError.single("--samples", message)
    if method == "sobol":
        from SALib.sample import sobol

        base = 1 << (count.bit_length() - 1)  # Sobol's sequence is balanced at powers of two
        return np.asarray(sobol.sample(problem, base, calc_second_order=False, seed=seed), dtype=np.float64)
    from SALib.sample import morris

    return np.asarray(morris.sample(problem, count, num_levels=_LEVELS, seed=seed), dtype=np.float64)


def indices(
    method: Method,
    names: Sequence[str],
    ranges: Ranges,
    points: Floats,
    output: Floats,
    seed: int,
) -> tuple[Index, ...]:
    """Return the indices of an output, shape (points,), at the points of a design; all 0 where it never changes."""
    problem = _problem(names, ranges)
    if float(np.ptp(output)) == 0.0:
        return tuple(Index(name, {}, {}) for name in names)
    if method == "sobol":
        from SALib.analyze import sobol

        found = sobol.analyze(problem, output, calc_second_order=False, seed=seed)
        pairs = {"S1": "S1_conf", "ST": "ST_conf"}
    else:
        from SALib.analyze import morris

        found = morris.analyze(problem, points, output, num_levels=_LEVELS, seed=seed)
        pairs = {"mu_star": "mu_star_conf", "sigma": ""}
    return tuple(
        Index(
            name,
            {measure: float(found[measure][i]) for measure in pairs},
            {measure: float(found[half][i]) for measure, half in pairs.items() if half},
        )
        for i, name in enumerate(names)
    )


def _problem(names: Sequence[str], ranges: Ranges) -> dict[str, Any]:
    return {"num_vars": len(names), "names": list(names), "bounds": [list(pair) for pair in ranges]}
