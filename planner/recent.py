"""The last few things that were worked out."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class Recent(Generic[_Value]):
    """Values by key; where there would be more than ``most``, the oldest is forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: dict[Hashable, _Value] = {}

    def of(self, key: Hashable, make: Callable[[], _Value]) -> _Value:
        """Return the value of a key, made where it is not remembered."""
        if key not in self._values:
            while len(self._values) >= self._most:
                self._values.pop(next(iter(self._values)))
            self._values[key] = make()
        return self._values[key]
