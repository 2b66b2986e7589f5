"""Frozen name → object tables for the families that grow by one file (formulations, solvers)."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Protocol, TypeVar


class Named(Protocol):
    """Anything with a name."""

    @property
    def name(self) -> str:
        """The name users write."""


T = TypeVar("T", bound=Named)


def by_name(items: Iterable[T]) -> Mapping[str, T]:
    """Return a read-only table of the items by name.

    Raises:
        ValueError: two items share a name.
    """
    table: dict[str, T] = {}
    for item in items:
        if item.name in table:
            msg = f"two items are named '{item.name}'"
            raise ValueError(msg)
        table[item.name] = item
    return MappingProxyType(table)
