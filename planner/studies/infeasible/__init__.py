"""What is missing: why a scenario has no plan, and the least that would have to change."""

from planner.studies.infeasible.study import Conflict, Infeasibility, Member, Relaxation, infeasible

__all__ = ["Conflict", "Infeasibility", "Member", "Relaxation", "infeasible"]
