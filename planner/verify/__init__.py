"""Re-checks a plan without any solver, from figures evaluated anew."""

from planner.verify.checks import Evidence, Verdict, judge

__all__ = ["Evidence", "Verdict", "judge"]
