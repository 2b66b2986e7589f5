"""Numbers that carry their slopes: any compiled cost evaluated on them is differentiated as it runs.

Forward mode (Griewank and Walther, Evaluating Derivatives, ch. 3) by overloading: no code is generated for it, so
what has a compiled cost has its slopes at once. Whole numbers (floor, ceiling) do not move, and of a maximum, a minimum
or a choice only the branch that is taken counts.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from planner.table import Floats

# Of a result and its arguments, the slopes by each argument.
_PARTIALS: Mapping[np.ufunc, Callable[..., tuple[Any, ...]]] = {
    np.add: lambda r, x, y: (1.0, 1.0),
    np.subtract: lambda r, x, y: (1.0, -1.0),
    np.multiply: lambda r, x, y: (y, x),
    np.true_divide: lambda r, x, y: (1 / y, -r / y),
    np.power: lambda r, x, y: (y * x ** (y - 1.0), r * np.log(x)),
    np.negative: lambda r, x: (-1.0,),
    np.maximum: lambda r, x, y: (x > y, x <= y),
    np.minimum: lambda r, x, y: (x < y, x >= y),
    np.sqrt: lambda r, x: (0.5 / r,),
    np.cbrt: lambda r, x: (1 / (3 * r**2),),
    np.log: lambda r, x: (1 / x,),
    np.floor: lambda r, x: (0.0,),
    np.ceil: lambda r, x: (0.0,),
    np.greater: lambda r, x, y: (0.0, 0.0),
}


class Dual(NDArrayOperatorsMixin):
    """Values, shape (C,), and their slopes by S symbols, shape (S, C)."""

    def __init__(self, values: Any, slopes: Any) -> None:
        self.values, self.slopes = values, slopes

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Apply a function of NumPy by the chain rule."""
        if method != "__call__" or options or ufunc not in _PARTIALS:
            return NotImplemented
        plain = [_values(part) for part in inputs]
        result = ufunc(*plain)
        return _chained(result, inputs, _PARTIALS[ufunc](result, *plain))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Choose between numbers by a condition."""
        if function is not np.where or kwargs:
            return NotImplemented
        holds, yes, no = (_values(part) for part in args)
        taken = np.where(holds, 1.0, 0.0)
        return _chained(np.where(holds, yes, no), args[1:], (taken, 1.0 - taken))


def duals(values: Mapping[str, Floats], symbols: tuple[str, ...]) -> dict[str, Any]:
    """Return values by name, shape (C,) each, of which those of S symbols carry slopes."""
    units = np.eye(len(symbols))[:, :, None]
    return {**values, **{name: Dual(values[name], unit) for name, unit in zip(symbols, units, strict=True)}}


def split(found: Mapping[str, Any], symbols: int) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return values and slopes by name, which are none where nothing moves a value; ``symbols``: how many there are."""
    none = np.zeros((symbols, 1))
    slopes = {name: part.slopes if isinstance(part, Dual) else none for name, part in found.items()}
    return {name: _values(part) for name, part in found.items()}, slopes


def _values(part: Any) -> Any:
    return part.values if isinstance(part, Dual) else part


def _chained(result: Any, inputs: tuple[Any, ...], partials: tuple[Any, ...]) -> Any:
    """Return a result with its slopes; undefined ones are of branches that are not taken, like that of a root at 0."""
    moved = [
        np.where(np.isfinite(partial), partial, 0.0) * part.slopes
        for part, partial in zip(inputs, partials, strict=True)
        if isinstance(part, Dual) and np.any(partial)
    ]
    return Dual(result, sum(moved[1:], moved[0])) if moved else result
