"""The study: conflicts, the best of each requirement alone, and relaxations that were solved again."""

import html
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from planner.catalog import AnyCase
from planner.errors import InternalError
from planner.studies.infeasible.conflicts import (
    Found,
    changed,
    conflicts,
    correction,
    loosened,
    tightened,
    together,
    without,
)
from planner.studies.infeasible.feasibility import Feasibility
from planner.studies.infeasible.requirements import Requirement, requirements
from planner.text import aligned

Stage = Callable[[str], None]
Reload = Callable[[Sequence[str]], AnyCase]
Where = Callable[[tuple[str | int, ...]], str]


class Member(NamedTuple):
    """A requirement that is part of a conflict: its field, what it says, where it stands, what it could be alone."""

    field: str
    words: str
    place: str
    best_alone: str | None


class Conflict(NamedTuple):
    """Requirements that cannot hold together, though any fewer of them can."""

    members: tuple[Member, ...]


class Relaxation(NamedTuple):
    """Changes that together give the scenario a plan: in words, and as settings like those of ``--set``.

    ``values``: what each changes to, None where that is no number [SI units].
    """

    words: tuple[str, ...]
    settings: tuple[str, ...]
    values: tuple[float | None, ...]


class Infeasibility(NamedTuple):
    """Why a scenario has no plan, and what would give it one; ``feasible`` ones have no conflict.

    No conflict, and not feasible: no requirement is to blame, whatever is asked no configuration is legal.
    """

    scenario: str
    feasible: bool
    conflicts: tuple[Conflict, ...] = ()
    relaxations: tuple[Relaxation, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """It for people."""
        return "\n".join(lines(self)) + "\n"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text)}</pre>"

    def as_data(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "scenario": self.scenario,
            "feasible": self.feasible,
            "conflicts": [[member._asdict() for member in conflict.members] for conflict in self.conflicts],
            "relaxations": [relaxation._asdict() for relaxation in self.relaxations],
            "notes": list(self.notes),
        }


def lines(found: Infeasibility) -> Iterator[str]:
    """Yield the lines of a study for people."""
    if found.feasible:
        yield f"{found.scenario}: has a plan; nothing is missing"
        return
    yield f"{found.scenario}: no plan"
    if not found.conflicts:
        yield "no requirement is to blame: whatever is asked, no configuration is legal"
    for conflict in found.conflicts:
        yield ""
        alone = len(conflict.members) == 1
        yield "cannot hold, whatever else gives way" if alone else "cannot hold together, though any fewer of them can"
        rows = [[f"  {m.words}", m.best_alone or "", m.place] for m in conflict.members]
        yield from aligned(["  requirement", "best alone", "where"], rows, ("  requirement", "best alone", "where"))
    for i, relaxation in enumerate(found.relaxations):
        if not i:
            yield ""
            yield (
                "each of these is enough, the least of its kind, and was solved again"
                if len(found.relaxations) > 1
                else "this is enough, the least of its kind, and was solved again"
            )
        joined = ", and ".join(relaxation.words)
        yield f"  {joined}"
        yield "    " + " ".join(f"--set '{setting}'" for setting in relaxation.settings)
    yield from (f"note: {note}" for note in found.notes)


def _silent(stage: str) -> None:
    """Ignore progress."""


def infeasible(
    case: AnyCase, reload: Reload | None = None, where: Where = lambda path: "", on_stage: Stage = _silent
) -> Infeasibility:
    """Explain why a case has no plan.

    Args:
        case: a scenario with everything it names.
        reload: loads the scenario again with settings, as ``load_scenario`` does, so that each relaxation is solved as
            the user would write it; where not given, it is solved as changed in memory.
        where: the place of a field in the scenario file, like ``mine.yaml:12``, "" where it has none.
        on_stage: told what is looked at.

    Raises:
        InternalError: a relaxation does not solve after all.
    """
    solves = Feasibility()
    on_stage("pricing configurations")
    if solves(case):
        return Infeasibility(case.scenario.name, feasible=True)
    every = requirements(case)
    binding = [requirement for requirement in every if requirement.binds]
    on_stage("looking for what conflicts")
    sets = conflicts(case, binding, solves)
    members = [requirement for found in sets for requirement in found]
    facts = [requirement for requirement in every if not requirement.binds] if members else []
    on_stage("looking for what would be enough")
    proposals = [*_single(case, sets, facts, solves), *_joint(case, sets, binding, solves)]
    for proposal in proposals:
        _check(case, proposal, reload, solves)
    return Infeasibility(
        case.scenario.name,
        feasible=False,
        conflicts=tuple(Conflict(tuple(_member(case, m, members, solves, where) for m in found)) for found in sets),
        relaxations=tuple(_relaxation(proposal) for proposal in proposals),
        notes=tuple(_notes(solves, proposals)),
    )


def _single(
    case: AnyCase, sets: Sequence[tuple[Requirement, ...]], facts: Sequence[Requirement], solves: Feasibility
) -> Iterator[tuple[Found, ...]]:
    """Yield changes of one requirement each that are enough; conflicts that are apart can be ended by a fact alone."""
    members = sets[0] if len(sets) == 1 else ()
    for requirement in (*members, *facts):
        found = loosened(case, requirement, solves)
        if found is not None:
            yield (found,)


def _joint(
    case: AnyCase, sets: Sequence[tuple[Requirement, ...]], binding: Sequence[Requirement], solves: Feasibility
) -> Iterator[tuple[Found, ...]]:
    """Yield changes of several requirements where no single one is enough: wishes first, then means first."""
    if not sets or (len(sets) == 1 and any(solves(member.aside(case)) for member in sets[0])):
        return
    first, second = (correction(case, order, solves) for order in (binding, binding[::-1]))
    alike = {member.path for member in first} == {member.path for member in second}
    for group in (first,) if alike else (first, second):
        if sum(requirement.leaves_out for requirement in group) > 1:
            continue  # each of their settings writes all other workloads
        found = together(case, group, solves)
        if found:
            yield found


def _check(case: AnyCase, proposal: Sequence[Found], reload: Reload | None, solves: Feasibility) -> None:
    """Solve a case with the changes of a proposal, priced anew within its limits."""
    settings = [setting for found in proposal for setting in found.change.settings]
    if reload is not None:
        case = reload(settings)
    else:
        for found in proposal:
            case = changed(case, found.change)
    if not solves.again(case):
        msg = f"with {' and '.join(settings)} there should be a plan, and there is none; please report this"
        raise InternalError(msg)


def _member(
    case: AnyCase, member: Requirement, members: Sequence[Requirement], solves: Feasibility, where: Where
) -> Member:
    best = None
    if member.wish:
        others = [other for other in members if other.wish and other is not member]
        best = tightened(without(case, others), member, solves)
    field = ".".join(map(str, member.path))
    return Member(field, member.words, where(member.path), None if best is None else best.change.value)


def _relaxation(proposal: Sequence[Found]) -> Relaxation:
    return Relaxation(
        words=tuple(found.change.words for found in proposal),
        settings=tuple(setting for found in proposal for setting in found.change.settings),
        values=tuple(found.value for found in proposal),
    )


def _notes(solves: Feasibility, proposals: Sequence[Sequence[Found]]) -> Iterator[str]:
    if solves.undecided:
        yield (
            f"{solves.undecided} solves ran out of time and counted as having no plan; a longer solver.time_limit may "
            "give smaller relaxations"
        )
    if not proposals:
        yield "no change of these requirements is enough, alone or together"
