"""What holds an operator back where components have queues of their own (component roofline, ASPLOS 2025)."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

Kind = Literal["bound", "insufficient parallelism", "inefficient"]


class Use(NamedTuple):
    """How an operator uses a component: ``utilisation`` U of its rate over the whole time, ``active`` share R of it."""

    component: str
    utilisation: float
    active: float

    @property
    def efficiency(self) -> float:
        """Share of the rate reached while active: E = U/R."""
        return self.utilisation / self.active


class Diagnosis(NamedTuple):
    """What is wrong, and with which component; none where the components wait for each other."""

    kind: Kind
    component: str | None


def diagnose(uses: Sequence[Use], bound: float, active: float) -> Diagnosis:
    """Classify an operator by its components.

    Args:
        uses: at least one component.
        bound: from this utilisation on, the operator is bound by a component.
        active: from this share of the time on, a component counts as active throughout.
    """
    fullest = max(uses, key=lambda use: use.utilisation)
    if fullest.utilisation >= bound:
        return Diagnosis("bound", fullest.component)
    busiest = max(uses, key=lambda use: use.active)
    if busiest.active < active:
        return Diagnosis("insufficient parallelism", None)
    return Diagnosis("inefficient", busiest.component)
