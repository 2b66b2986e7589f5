"""What a study varies together: points of numbers, and the case that each stands for."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from planner.catalog import Case
from planner.columns.setting import Setting, settings
from planner.studies.sensitivity.parameters import Parameter, varied


class Space(Protocol):
    """Points with a number for each name."""

    @property
    def names(self) -> tuple[str, ...]:
        """What each number stands for."""

    @property
    def ends(self) -> list[tuple[float, float]]:
        """The least and the most of each number between which points are solved."""

    @property
    def neutral(self) -> tuple[float, ...]:
        """The point that is the case as it stands."""

    def settings(self, case: Case, point: Sequence[float]) -> tuple[Case, list[Setting]]:
        """Return the case at a point, and the settings that its columns are priced in."""


class Ranges(NamedTuple):
    """Factors on numbers of the case, each over its own range."""

    parameters: tuple[Parameter, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the numbers."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def ends(self) -> list[tuple[float, float]]:
        """Ranges of the factors."""
        return [(parameter.low, parameter.high) for parameter in self.parameters]

    @property
    def neutral(self) -> tuple[float, ...]:
        """Every factor 1."""
        return (1.0,) * len(self.parameters)

    def settings(self, case: Case, point: Sequence[float]) -> tuple[Case, list[Setting]]:
        """Return the case with every number at its factor."""
        changed = varied(case, self.parameters, point)
        return changed, settings(changed)
