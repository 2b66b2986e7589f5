"""What is missing: why there is no plan, or no way to one, and the least that would have to change."""

from planner.studies.infeasible.study import (
    Conflict,
    Infeasibility,
    Member,
    Relaxation,
    infeasible,
    infeasible_migration,
    reasons,
)

__all__ = ["Conflict", "Infeasibility", "Member", "Relaxation", "infeasible", "infeasible_migration", "reasons"]
