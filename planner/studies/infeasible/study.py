"""The study: conflicts, the best of each requirement alone, and relaxations that were solved again."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from planner.catalog import AnyCase
from planner.errors import InternalError
from planner.migration import Migration
from planner.studies.infeasible.conflicts import (
    Found,
    Whole,
    changed,
    conflicts,
    correction,
    loosened,
    tightened,
    together,
    without,
)
from planner.studies.infeasible.feasibility import Feasibility
from planner.studies.infeasible.migration import Orders, of_migration
from planner.studies.infeasible.requirements import Requirement, requirements
from planner.text import Readable, aligned


class Oracle(Protocol):
    """Tells whether something has a solution; ``undecided`` counts where time ran out before it was known."""

    undecided: int

    def __call__(self, whole: Whole, /) -> bool:
        """Tell it."""


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


class _Infeasibility(NamedTuple):
    scenario: str
    feasible: bool
    conflicts: tuple[Conflict, ...] = ()
    relaxations: tuple[Relaxation, ...] = ()
    notes: tuple[str, ...] = ()
    option: str = "--set"


class Infeasibility(Readable, _Infeasibility):
    """Why a scenario has no plan, or a migration no order, and what would give it one; else there is no conflict.

    No conflict, and not ``feasible``: no requirement is to blame, whatever is asked no configuration is legal.
    ``scenario``: its name, "" of a migration. ``option``: of the command line, that takes the settings of relaxations.
    """

    def lines(self) -> Iterator[str]:
        """It for people."""
        return _lines(self)

    def as_data(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "scenario": self.scenario,
            "feasible": self.feasible,
            "conflicts": [[member._asdict() for member in conflict.members] for conflict in self.conflicts],
            "relaxations": [relaxation._asdict() for relaxation in self.relaxations],
            "notes": list(self.notes),
        }


def _lines(found: Infeasibility) -> Iterator[str]:
    """Yield the lines of a study for people."""
    if found.feasible:
        yield f"{found.scenario}: has a plan; nothing is missing"
        return
    yield f"{found.scenario}: no plan"
    yield from reasons(found)


def reasons(found: Infeasibility) -> Iterator[str]:
    """Yield the same without what it is about."""
    if not found.conflicts:
        yield "no requirement is to blame: whatever is asked, there is none"
    for conflict in found.conflicts:
        yield ""
        alone = len(conflict.members) == 1
        yield "cannot hold, whatever else gives way" if alone else "cannot hold together, though any fewer of them can"
        rows = [[f"  {m.words}", m.best_alone or "", m.place] for m in conflict.members]
        headers = ("  requirement", "best alone", "where" if any(m.place for m in conflict.members) else "")
        yield from aligned(headers, rows, headers)
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
        if relaxation.settings:
            yield "    " + " ".join(f"{found.option} '{setting}'" for setting in relaxation.settings)
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

    def again(proposal: Sequence[Found]) -> bool:
        if reload is not None:
            return solves.again(reload([setting for found in proposal for setting in found.change.settings]))
        return solves.again(_changed(case, proposal))

    return explained(case.scenario.name, case, requirements(case), solves, again, where, on_stage)


def infeasible_migration(migration: Migration, on_stage: Stage = _silent) -> Infeasibility:
    """Explain why a migration has no order: which needs and devices conflict, and the least that would have to change.

    Raises:
        InternalError: a relaxation has no order after all.
    """
    on_stage("ordering steps")
    solves = Orders()
    if solves(migration):
        return Infeasibility("", feasible=True)

    def again(proposal: Sequence[Found]) -> bool:
        return solves.again(_changed(migration, proposal))

    found = explained("", migration, of_migration(migration), solves, again, on_stage=on_stage)
    return found._replace(option="--needs")


def explained(
    name: str,
    whole: Whole,
    every: Sequence[Requirement],
    solves: Oracle,
    again: Callable[[Sequence[Found]], bool],
    where: Where = lambda path: "",
    on_stage: Stage = _silent,
) -> Infeasibility:
    """Explain why something has no solution.

    Args:
        name: what it is called.
        whole: all that is asked for.
        every: the same, one requirement at a time.
        solves: whether there is a solution for something that asks for less.
        again: the same of proposed changes, without anything that was remembered.
        where: the place of a field, "" where it has none.
        on_stage: told what is looked at.

    Raises:
        InternalError: a relaxation does not solve after all.
    """
    binding = [requirement for requirement in every if requirement.binds]
    on_stage("looking for what conflicts")
    sets = conflicts(whole, binding, solves)
    members = [requirement for found in sets for requirement in found]
    facts = [requirement for requirement in every if not requirement.binds] if members else []
    on_stage("looking for what would be enough")
    proposals = [*_single(whole, sets, facts, solves), *_joint(whole, sets, binding, solves)]
    for proposal in proposals:
        if not again(proposal):
            words = " and ".join(found.change.words for found in proposal)
            msg = f"with {words} there should be a solution, and there is none; please report this"
            raise InternalError(msg)
    return Infeasibility(
        name,
        feasible=False,
        conflicts=tuple(
            Conflict(tuple(_member(whole, m, members, binding, solves, where) for m in found)) for found in sets
        ),
        relaxations=tuple(_relaxation(proposal) for proposal in proposals),
        notes=tuple(_notes(solves, proposals)),
    )


def _single(
    whole: Whole, sets: Sequence[tuple[Requirement, ...]], facts: Sequence[Requirement], solves: Oracle
) -> Iterator[tuple[Found, ...]]:
    """Yield changes of one requirement each that are enough; conflicts that are apart can be ended by a fact alone."""
    members = sets[0] if len(sets) == 1 else ()
    for requirement in (*members, *facts):
        found = loosened(whole, requirement, solves)
        if found is not None:
            yield (found,)


def _joint(
    whole: Whole, sets: Sequence[tuple[Requirement, ...]], binding: Sequence[Requirement], solves: Oracle
) -> Iterator[tuple[Found, ...]]:
    """Yield changes of several requirements where no single wish is enough: wishes first, then means first."""
    if not sets or (len(sets) == 1 and any(member.wish and solves(member.aside(whole)) for member in sets[0])):
        return
    first, second = (correction(whole, order, solves) for order in (binding, binding[::-1]))
    alike = {member.path for member in first} == {member.path for member in second}
    for group in (first,) if alike else (first, second):
        if sum(requirement.leaves_out for requirement in group) > 1:
            continue  # each of their settings writes all other workloads
        if len(sets) == 1 and len(group) == 1:
            continue  # a single one is looked at by itself
        found = together(whole, group, solves)
        if found:
            yield found


def _changed(whole: Whole, proposal: Sequence[Found]) -> Whole:
    for found in proposal:
        whole = changed(whole, found.change)
    return whole


def _member(
    whole: Whole,
    member: Requirement,
    members: Sequence[Requirement],
    binding: Sequence[Requirement],
    solves: Oracle,
    where: Where,
) -> Member:
    best = None
    # Wishes outside of the conflicts stay as long as there is anything to be had beside them.
    for wishes in (members, binding) if member.wish else ():
        others = [other for other in wishes if other.wish and other is not member]
        best = best or tightened(without(whole, others), member, solves)
    field = ".".join(map(str, member.path))
    return Member(field, member.words, where(member.path), None if best is None else best.change.value)


def _relaxation(proposal: Sequence[Found]) -> Relaxation:
    return Relaxation(
        words=tuple(found.change.words for found in proposal),
        settings=tuple(setting for found in proposal for setting in found.change.settings),
        values=tuple(found.value for found in proposal),
    )


def _notes(solves: Oracle, proposals: Sequence[Sequence[Found]]) -> Iterator[str]:
    if solves.undecided:
        yield (
            f"{solves.undecided} solves ran out of time and counted as having no plan; a longer solver.time_limit may "
            "give smaller relaxations"
        )
    if not proposals:
        yield "no change of these requirements is enough, alone or together"
