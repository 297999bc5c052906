"""Starting: the first manifest of a query, or one that goes on from a checkpoint; and what a failure means. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum

import pyarrow as pa

from microstream.checkpoint.manifest import (
    Kind,
    Manifest,
    OperatorState,
    PartitionState,
    SinkState,
    SourceState,
    Status,
)
from microstream.checkpoint.store import StoreError
from microstream.clock import BEGINNING_US
from microstream.errors import (
    CheckpointError,
    InternalError,
    MicrostreamError,
    PlanError,
    UnreachableError,
)
from microstream.operators.aggregate import shape, state_schema
from microstream.plan.nodes import Sink, Source
from microstream.plan.stages import Operator, Stages
from microstream.plan.stored import node_text
from microstream.runtime.changes import NOTHING, OnChange, is_elsewhere, plan_problems, waits, way_out
from microstream.runtime.watermark import closed_for_good_us, operator_watermark
from microstream.state.hashing import HASH_ID
from microstream.state.lanes import lane_starts, rescale

__all__ = ["StartOffsets", "Verdict", "first_manifest", "new_sources", "resumed", "told", "verdict"]

StartOffsets = Mapping[str, tuple[Mapping[str, int], Mapping[str, str]]]
"""Source -> (partition -> first offset, topic -> id)."""


class Verdict(Enum):
    """What a failed task means for the query."""

    AGAIN = "again"
    """It may pass: run the attempt again; counts against the setting `attempts`."""
    WAIT = "wait"
    """Something outside is away: run again until its setting's time is over."""
    STOP = "stop"
    """It would fail for ever: the query ends with this error."""


def verdict(error: BaseException) -> Verdict:
    """Judge the error of a lane task."""
    match error:
        case UnreachableError() | StoreError():
            return Verdict.WAIT
        case MicrostreamError() if not isinstance(error, InternalError):
            return Verdict.STOP
        case _:
            return Verdict.AGAIN


def told(error: BaseException, query: str) -> BaseException:
    """What users of `query` see of `error`: one of ours that names the query, and never the bare error of a library."""
    match error:
        case MicrostreamError():
            return error if f"query {query}" in str(error) else error.at(f"query {query}")
        case StoreError():
            seen: MicrostreamError = CheckpointError.of(
                f"query {query}",
                [str(error).rstrip(".")],
                "What was committed before is safe: mend it and start the query again.",
            )
        case Exception():
            seen = InternalError(
                f"query {query}: {type(error).__name__}: {error}. This should not happen: please report it. What was "
                "committed is safe, and the query can be started again."
            )
        case _:
            return error
    seen.__cause__ = error
    return seen


def first_manifest(
    stages: Stages,
    *,
    job: str,
    commit_id: str,
    epoch: int,
    owner: str,
    url: str,
    lanes: int,
    starts: StartOffsets,
    now_us: int,
) -> Manifest:
    """The `start` manifest of a new query: written before the first read, so that "latest" stays what it was."""
    return Manifest(
        job=job,
        seq=0,
        parent="",
        commit_id=commit_id,
        epoch=epoch,
        owner=owner,
        kind=Kind.START,
        url=url,
        finished=False,
        batch=-1,
        batch_time_us=0,
        written_us=now_us,
        plan=stages.fingerprint,
        lanes=lanes,
        hash_id=HASH_ID,
        sources=tuple(_new_source(node, starts) for node in stages.sources),
        operators=tuple(_new_operator(o, lanes, BEGINNING_US) for o in stages.operators),
        sinks=tuple(_new_sink(sink, -1) for sink in stages.sinks),
        schemas=_schemas(stages.operators),
        floor=0,
        kept=(),
    )


def new_sources(head: Manifest | None, stages: Stages) -> tuple[Source, ...]:
    """Sources of the plan that the checkpoint does not know: their start offsets must be resolved."""
    known = {source.name for source in head.sources} if head is not None else set()
    return tuple(node for node in stages.sources if node.name not in known)


def resumed(
    head: Manifest, stages: Stages, *, lanes: int, starts: StartOffsets, on_change: OnChange = NOTHING
) -> Manifest:
    """`head` as this plan and number of lanes continue it; equal to `head` if nothing changed.

    What does not fit is left behind where `on_change` says so.

    Raises
    ------
    PlanError
        The plan cannot go on from this checkpoint; all reasons at once (semantics 38).
    """
    problems = plan_problems(head, stages, on_change)
    if problems:
        reasons, advice = tuple(problem.text for problem in problems), way_out(head, stages, on_change)
        raise PlanError(
            f"the plan cannot go on from checkpoint {head.url}: {'; '.join(reasons)}. {advice}",
            checkpoint=head.url,
            problems=reasons,
        )
    known_sources = {source.name: source for source in head.sources}
    known_operators = {state.id: state for state in head.operators}
    known_sinks = {sink.name: sink for sink in head.sinks}
    sources = tuple(known_sources.get(node.name) or _new_source(node, starts) for node in stages.sources)
    # What is new, or has a new name, must not open windows again that were closed and emitted before.
    by_name = {source.name: source for source in sources}
    operators = tuple(_resumed_operator(known_operators.get(o.id), o, lanes, by_name) for o in stages.operators)
    sinks = tuple(_resumed_sink(known_sinks.get(sink.name), sink, head.batch) for sink in stages.sinks)
    return replace(
        head,
        plan=stages.fingerprint,
        lanes=lanes,
        sources=sources,
        operators=operators,
        sinks=sinks,
        schemas=_schemas(stages.operators),
    )


def _new_source(node: Source, starts: StartOffsets) -> SourceState:
    offsets, topic_ids = starts[node.name]
    return SourceState(
        name=node.name,
        kind=node.spec.kind,
        target=node.spec.target,
        topic_ids=tuple(sorted(topic_ids.items())),
        watermark_us=BEGINNING_US,
        partitions=tuple(
            PartitionState(partition=name, next_offset=offset, max_event_time_us=BEGINNING_US, status=Status.NEVER_SEEN)
            for name, offset in sorted(offsets.items())
        ),
    )


def _new_operator(operator: Operator, lanes: int, watermark_us: int) -> OperatorState:
    return OperatorState(
        id=operator.id,
        kind="aggregate",
        mode=operator.node.mode,
        shape=shape(operator.node),
        schema_id=_schema_id(state_schema(operator.node)),
        lane_starts=lane_starts(lanes),
        closed_before_us=watermark_us,
        watermark_us=watermark_us,
        runs=(),
        node=node_text(operator.node),
    )


def _resumed_operator(
    old: OperatorState | None, operator: Operator, lanes: int, sources: Mapping[str, SourceState]
) -> OperatorState:
    if old is None:
        # Idle sources hold no operator back, but a new one has no other watermark when all of them are.
        least_us = min(sources[name].watermark_us for name in operator.sources)
        return _new_operator(operator, lanes, operator_watermark(least_us, operator.sources, sources))
    if shape(operator.node) != old.shape:
        # Empty, but what it closed before stays closed, also where it would have taken rows a little longer.
        return _new_operator(operator, lanes, old.watermark_us)
    closed_us = closed_for_good_us(operator.node, old.closed_before_us, old.watermark_us)
    going_on = replace(_rescaled(old, lanes), mode=operator.node.mode, node=node_text(operator.node))
    return replace(going_on, closed_before_us=closed_us)


def _rescaled(state: OperatorState, lanes: int) -> OperatorState:
    starts = lane_starts(lanes)
    if starts == state.lane_starts:
        return state
    return replace(state, lane_starts=starts, runs=rescale(state.runs, starts))


def _new_sink(sink: Sink, batch: int) -> SinkState:
    return SinkState(
        name=sink.name,
        kind=sink.spec.kind,
        target=sink.spec.target,
        format=sink.spec.format,
        lanes=0,
        published_through=batch,
        pending=(),
        every_us=sink.spec.publication.every_us,
    )


def _resumed_sink(old: SinkState | None, sink: Sink, batch: int) -> SinkState:
    fresh = _new_sink(sink, batch)
    if old is None or (waits(old) and is_elsewhere(sink, old)):
        return fresh
    # What was published elsewhere says nothing of this target.
    lanes = old.lanes if (old.kind, old.target) == (fresh.kind, fresh.target) else 0
    return replace(old, kind=fresh.kind, target=fresh.target, format=fresh.format, every_us=fresh.every_us, lanes=lanes)


def _schemas(operators: Sequence[Operator]) -> tuple[tuple[str, str], ...]:
    schemas = {_schema_id(s): s for s in (state_schema(o.node) for o in operators)}
    return tuple((key, base64.b64encode(_message(schemas[key])).decode()) for key in sorted(schemas))


def _schema_id(schema: pa.Schema) -> str:
    return hashlib.sha256(_message(schema)).hexdigest()[:16]


def _message(schema: pa.Schema) -> bytes:
    return bytes(schema.serialize().to_pybytes())
