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
    """Something in the checkpoint that the plan does not fit; `change` is what `on_change` may say of `name`."""

    text: str
    name: str = ""
    change: Change | None = None

    def __str__(self) -> str:
        return self.text


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
    found = (*_engine(head), *_operators(head, stages), *_sources(head, stages), *_sinks(head, stages))
    return tuple(
        problem for problem in found if problem.change is None or on_change.get(problem.name) != problem.change
    )


def way_out(problems: Sequence[Problem]) -> str:
    """What the user can do now."""
    advice = "Start the query that wrote it, or use a new checkpoint folder for this one."
    given_up = {problem.name: problem.change for problem in problems}
    if None in given_up.values():
        return advice
    return f"{advice} Or give up what is kept of them, with on_change={given_up}."


def waits(sink: SinkState) -> bool:
    """Whether rows of `sink` are committed and not yet published."""
    return bool(sink.pending or sink.held)


def is_elsewhere(new: Sink, old: SinkState) -> bool:
    """Whether rows encoded for `old` cannot be published by `new`."""
    return (new.spec.kind, new.spec.target, new.spec.format) != (old.kind, old.target, old.format)


def _engine(head: Manifest) -> Iterator[Problem]:
    if head.hash_id != HASH_ID:
        yield Problem(f"its keys are hashed by {head.hash_id!r}, this version hashes by {HASH_ID!r}")


def _operators(head: Manifest, stages: Stages) -> Iterator[Problem]:
    operators = {operator.id: operator for operator in stages.operators}
    for state in head.operators:
        operator = operators.get(state.id)
        if operator is None:
            said = f"its operator {state.id!r} is not in this query, so its state would be lost"
            yield Problem(said, state.id, "drop")
        elif shape(operator.node) != state.shape:
            said = f"operator {state.id!r} {_changed(state.shape, shape(operator.node))}"
            yield Problem(said, state.id, "reset")


def _sources(head: Manifest, stages: Stages) -> Iterator[Problem]:
    sources = {node.name: node for node in stages.sources}
    for source in head.sources:
        node = sources.get(source.name)
        if node is None:
            yield Problem(f"its source {source.name!r} is not in this query", source.name, "drop")
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
            yield Problem(f"sink {old.name!r} ({was}) still has batches {batches} to publish", old.name, "drop")


def _changed(old: str, new: str) -> str:
    """The parts of two shapes that differ, as they were and as they are."""
    was, now = json.loads(old), json.loads(new)
    names = [name for name in now if was.get(name) != now[name]]
    before, after = ({name: which.get(name) for name in names} for which in (was, now))
    return f"was {json.dumps(before)} and is now {json.dumps(after)}"
