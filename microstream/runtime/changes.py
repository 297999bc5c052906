"""What of a checkpoint a changed plan no longer fits, and what is to become of it (semantics 38). Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from microstream.checkpoint.manifest import Manifest, SinkState
from microstream.errors import PlanError
from microstream.operators.aggregate import shape
from microstream.plan.nodes import Sink
from microstream.plan.stages import Stages
from microstream.state.hashing import HASH_ID

__all__ = [
    "NOTHING",
    "Change",
    "OnChange",
    "Problem",
    "checked_changes",
    "given_up",
    "is_elsewhere",
    "plan_problems",
    "waits",
    "way_out",
]

Change: TypeAlias = Literal["drop", "reset"]
OnChange: TypeAlias = Mapping[str, Change]
"""Operator, source or sink -> what is to become of it where the plan no longer fits it."""

NOTHING: OnChange = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the checkpoint that the plan does not fit.

    `change` is what `on_change` may say of it, by `name`, or by `kind` and name ("sink:totals").
    """

    text: str
    kind: str = ""
    name: str = ""
    change: Change | None = None

    @property
    def full_name(self) -> str:
        """Unlike `name`, never that of another part."""
        return f"{self.kind}:{self.name}"


def checked_changes(on_change: Mapping[str, str] | None) -> OnChange:
    """`on_change` as users write it. Raises PlanError."""
    checked: dict[str, Change] = {}
    for name, change in (on_change or {}).items():
        match change:
            case "drop" | "reset":
                checked[name] = change
            case _:
                raise PlanError(f"on_change: {name!r} is to be {change!r}: say 'drop' or 'reset'.")
    return checked


def plan_problems(head: Manifest, stages: Stages, on_change: OnChange = NOTHING) -> tuple[Problem, ...]:
    """Why `stages` cannot go on from `head`; without what `on_change` gives up."""
    found = _found(head, stages)
    return tuple(problem for problem in found if not _is_given_up(problem, found, on_change))


def given_up(head: Manifest, stages: Stages, on_change: OnChange) -> tuple[Problem, ...]:
    """What does not fit and is left behind because `on_change` says so."""
    found = _found(head, stages)
    return tuple(problem for problem in found if _is_given_up(problem, found, on_change))


def way_out(head: Manifest, stages: Stages, on_change: OnChange = NOTHING) -> str:
    """What the user can do now."""
    advice = "Start the query that wrote it, or use a new checkpoint folder for this one."
    problems, names = plan_problems(head, stages, on_change), [found.name for found in _found(head, stages)]
    if any(problem.change is None for problem in problems):
        return advice
    wanted = {p.full_name if names.count(p.name) > 1 or p.name in on_change else p.name: p.change for p in problems}
    return f"{advice} Or give up what is kept of them, with on_change={ {**on_change, **wanted} }."


def waits(sink: SinkState) -> bool:
    """Whether rows of `sink` are committed and not yet published."""
    return bool(sink.pending or sink.held)


def is_elsewhere(new: Sink, old: SinkState) -> bool:
    """Whether rows encoded for `old` cannot be published by `new`."""
    return (new.spec.kind, new.spec.target, new.spec.format) != (old.kind, old.target, old.format)


def _found(head: Manifest, stages: Stages) -> tuple[Problem, ...]:
    return (*_engine(head), *_operators(head, stages), *_sources(head, stages), *_sinks(head, stages))


def _is_given_up(problem: Problem, found: Sequence[Problem], on_change: OnChange) -> bool:
    """A bare name counts where it can mean one part only: giving one up must not lose what another keeps."""
    if problem.change is None:
        return False
    if on_change.get(problem.full_name) == problem.change:
        return True
    means_one = [other.name for other in found].count(problem.name) == 1
    return means_one and on_change.get(problem.name) == problem.change


def _engine(head: Manifest) -> Iterator[Problem]:
    if head.hash_id != HASH_ID:
        yield Problem(f"its keys are hashed by {head.hash_id!r}, this version hashes by {HASH_ID!r}")


def _operators(head: Manifest, stages: Stages) -> Iterator[Problem]:
    if head.batch < 0:
        return  # Nothing was committed: their state is empty.
    operators = {operator.id: operator for operator in stages.operators}
    for state in head.operators:
        operator = operators.get(state.id)
        if operator is None:
            said = f"its operator {state.id!r} is not in this query, so its state would be lost"
            yield Problem(said, "operator", state.id, "drop")
        elif shape(operator.node) != state.shape:
            said = f"operator {state.id!r} {_changed(state.shape, shape(operator.node))}"
            yield Problem(said, "operator", state.id, "reset")


def _sources(head: Manifest, stages: Stages) -> Iterator[Problem]:
    sources = {node.name: node for node in stages.sources}
    for source in head.sources:
        node = sources.get(source.name)
        if node is None:
            yield Problem(f"its source {source.name!r} is not in this query", "source", source.name, "drop")
        elif (node.spec.kind, node.spec.target) != (source.kind, source.target):
            yield Problem(
                f"source {source.name!r} was {source.kind} {source.target}, is now {node.spec.kind} {node.spec.target} "
                "(a source that reads something else needs a name= of its own)"
            )


def _sinks(head: Manifest, stages: Stages) -> Iterator[Problem]:
    sinks = {sink.name: sink for sink in stages.sinks}
    for old in head.sinks:
        new = sinks.get(old.name)
        if waits(old) and (new is None or is_elsewhere(new, old)):
            waiting = (*old.pending, *old.held)
            batches = f"{waiting[0].batch} to {waiting[-1].batch}"
            was = " ".join(part for part in (old.kind, old.target, old.format) if part)
            yield Problem(f"sink {old.name!r} ({was}) still has batches {batches} to publish", "sink", old.name, "drop")


def _changed(old: str, new: str) -> str:
    """The parts of two shapes that differ, as they were and as they are."""
    was, now = json.loads(old), json.loads(new)
    names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    before, after = ({name: which.get(name) for name in names} for which in (was, now))
    return f"was {json.dumps(before)} and is now {json.dumps(after)}"
