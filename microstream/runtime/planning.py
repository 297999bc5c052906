"""From what sources say to the slice of the next batch: new partitions, idleness, ends, and whether a batch is due.

Pure: the driver brings the bounds, the time and how long each partition has been quiet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from microstream.checkpoint.manifest import OperatorState, PartitionState, Run, SourceState, Status
from microstream.clock import BEGINNING_US
from microstream.connectors.protocol import Bounds, Range
from microstream.errors import ConnectorError, OffsetExpiredError, PlanError
from microstream.plan.nodes import Sliding, Source, Stateful, WindowAggregate
from microstream.plan.stages import Operator
from microstream.runtime.slicing import PartitionView
from microstream.runtime.watermark import advance_source, operator_watermark

__all__ = [
    "Quiet",
    "Slice",
    "check_offsets",
    "closes_something",
    "cut_ends",
    "discover",
    "ended",
    "finished_partitions",
    "idle_partitions",
    "is_last",
    "skip_expired",
    "views",
]

AVERAGE_BYTES = 200.0
"""Guess for a record of a source that nothing was read from yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One batch, fully described: `sources` is the ledger it starts from, new partitions included.

    `idle` and `finished` hold (source, partition) pairs, decided here so that every attempt sees the same. `latest`
    is where partitions ended then: nothing depends on it, it tells people how far behind the batch is.
    """

    batch: int
    batch_time_us: int
    ranges: tuple[Range, ...]
    sources: tuple[SourceState, ...]
    idle: frozenset[tuple[str, str]]
    finished: frozenset[tuple[str, str]]
    latest: Mapping[str, Mapping[str, int]] = field(default_factory=dict, compare=False)


Quiet = Mapping[tuple[str, str], int]
"""(source, partition) -> since when (microseconds) it has been caught up without a new record."""


def discover(source: SourceState, bounds: Mapping[str, Bounds]) -> SourceState:
    """`source` as its partitions are now: new ones are read from their earliest offset, and no lagging one is idle.

    The batch may leave out what a woken partition has to say; until it is read, it holds the watermark (semantics 3).
    """
    lines = tuple(_woken(line, bounds.get(line.partition)) for line in source.partitions)
    known = {line.partition for line in lines}
    new = tuple(_new(name, at) for name, at in sorted(bounds.items()) if name not in known)
    return replace(source, partitions=(*lines, *new))


def _new(name: str, at: Bounds) -> PartitionState:
    first = at.low if at.first is None else at.first
    return PartitionState(partition=name, next_offset=first, max_event_time_us=BEGINNING_US, status=Status.NEVER_SEEN)


def _woken(line: PartitionState, at: Bounds | None) -> PartitionState:
    if line.status is not Status.IDLE or at is None or at.end <= line.next_offset:
        return line
    never_seen = line.max_event_time_us == BEGINNING_US
    return replace(line, status=Status.NEVER_SEEN if never_seen else Status.ACTIVE)


def not_behind(source: SourceState, bounds: Mapping[str, Bounds]) -> Mapping[str, Bounds]:
    """`bounds`, where an end that follows a clock is not below what another host, whose clock was ahead, has read."""
    read = {line.partition: line.next_offset for line in source.partitions}
    return {
        name: replace(at, end=max(at.end, read.get(name, at.end))) if at.clocked else at for name, at in bounds.items()
    }


def check_offsets(source: SourceState, bounds: Mapping[str, Bounds], identity: Mapping[str, str]) -> None:
    """Refuse to go on where the source lost what must be read next, or is no longer the same.

    Raises
    ------
    OffsetExpiredError
        The oldest record there is lies beyond the next one to read.
    ConnectorError
        A topic was deleted, or deleted and created again: its offsets mean something else now.
    """
    for topic, known in source.topic_ids:
        now = identity.get(topic, "")
        if known and now and known != now:
            raise ConnectorError(
                f"source {source.name}: topic {topic} was deleted and created again since the checkpoint (its id was "
                f"{known}, now {now}): the offsets of the checkpoint mean nothing in it. Use a new checkpoint.",
                source=source.name,
                topic=topic,
            )
    for line in source.partitions:
        at = bounds.get(line.partition)
        if at is None:
            raise ConnectorError(
                f"source {source.name}: partition {line.partition} is in the checkpoint but not in the source now. "
                "If the topic was created again with fewer partitions, use a new checkpoint.",
                source=source.name,
                partition=line.partition,
            )
        if line.next_offset > at.end and at.finished:
            raise PlanError(
                f"source {source.name}: {line.partition} ends at offset {at.end}, but the checkpoint has read up to "
                f"{line.next_offset}. Give the source a later end, or use a new checkpoint.",
                source=source.name,
                partition=line.partition,
            )
        if line.next_offset > at.end:
            raise ConnectorError(
                f"source {source.name}: {line.partition} ends at offset {at.end}, but {line.next_offset} is next by "
                "the checkpoint: the topic was created again or lost data. Use a new checkpoint.",
                source=source.name,
                partition=line.partition,
            )
        if line.next_offset < at.low:
            raise OffsetExpiredError.of(source.name, line.partition, line.next_offset, at.low)


def skip_expired(source: SourceState, bounds: Mapping[str, Bounds]) -> SourceState:
    """`source` moved forward over records that retention removed (`on_data_loss="skip"`)."""
    lines = tuple(
        replace(line, next_offset=max(line.next_offset, bounds[line.partition].low))
        if line.partition in bounds
        else line
        for line in source.partitions
    )
    return replace(source, partitions=lines)


def cut_ends(bounds: Mapping[str, Bounds], ends: Mapping[str, int] | None) -> Mapping[str, Bounds]:
    """`bounds` as they were when `ends` was taken (`available_now`); partitions that came later hold nothing."""
    if ends is None:
        return bounds
    return {name: _cut(at, ends.get(name, at.low)) for name, at in bounds.items()}


def _cut(at: Bounds, end: int) -> Bounds:
    """What lies beyond `end` stays for another run: then this is not the end of the partition."""
    return replace(at, low=min(at.low, end), end=end, finished=False) if end < at.end else at


def ended(source: SourceState) -> Mapping[str, Bounds]:
    """Bounds of a source that ends where it was read to; partitions that nothing was read from do not exist."""
    return {
        line.partition: Bounds(low=line.next_offset, end=line.next_offset, finished=True) for line in source.partitions
    }


def views(
    sources: Sequence[SourceState],
    nodes: Mapping[str, Source],
    bounds: Mapping[str, Mapping[str, Bounds]],
    record_bytes: Mapping[str, float],
) -> tuple[PartitionView, ...]:
    """All partitions of all sources as slicing sees them."""
    return tuple(
        PartitionView(
            source=source.name,
            partition=line.partition,
            position=line.next_offset,
            end=at.end,
            max_event_time_us=line.max_event_time_us,
            bytes_per_record=record_bytes.get(source.name, AVERAGE_BYTES),
            max_step=at.max_step,
            takes_batch_time=nodes[source.name].takes_batch_time,
        )
        for source in sources
        for line in source.partitions
        for at in (bounds[source.name][line.partition],)
    )


def idle_partitions(
    sources: Sequence[SourceState],
    nodes: Mapping[str, Source],
    quiet_since: Quiet,
    now_us: int,
) -> frozenset[tuple[str, str]]:
    """Partitions that are caught up and have been quiet for their source's `idle_timeout` (semantics 3)."""
    idle = set()
    for source in sources:
        node = nodes[source.name]
        timeout = None if node.takes_batch_time else node.idle_timeout_us
        for line in source.partitions:
            since = quiet_since.get((source.name, line.partition))
            if timeout is not None and since is not None and now_us - since >= timeout:
                idle.add((source.name, line.partition))
    return frozenset(idle)


def finished_partitions(
    sources: Sequence[SourceState], bounds: Mapping[str, Mapping[str, Bounds]], ranges: Sequence[Range]
) -> frozenset[tuple[str, str]]:
    """Partitions of finite sources that have nothing left after `ranges`."""
    ends = {(r.source, r.partition): r.end for r in ranges}
    return frozenset(
        (source.name, line.partition)
        for source in sources
        for line in source.partitions
        for at in (bounds[source.name][line.partition],)
        if at.finished and ends.get((source.name, line.partition), line.next_offset) >= at.end
    )


def closes_something(
    slice_: Slice, nodes: Mapping[str, Source], plan: Sequence[Operator], states: Sequence[OperatorState]
) -> bool:
    """Whether a batch without data is due: a watermark passes a waiting window, or the input ends (semantics 8)."""
    after = {s.name: idle_ledger(s, slice_, nodes) for s in slice_.sources}
    if is_last(slice_.sources, slice_.finished):
        return True
    held = {state.id: state for state in states}
    for operator in plan:
        state = held[operator.id]
        moved = operator_watermark(state.watermark_us, operator.sources, after)
        if any(_closes(run, operator.node, state.watermark_us, moved) for run in state.runs):
            return True
    return False


def _closes(run: Run, node: Stateful, after_us: int, until_us: int) -> bool:
    """Whether a window of which `run` may have rows ends after `after_us` and at or before `until_us`, and is emitted.

    A run stays in the manifest while some of its windows have closed. Where the watermark is the time itself, it passes
    those anew every moment.
    """
    if not isinstance(node, WindowAggregate) or node.mode != "append":
        return False
    window = node.window
    step_us = window.every_us if isinstance(window, Sliding) else window.size_us
    beyond = max(0, -((until_us - run.max_end_us) // step_us))
    last_us = run.max_end_us - beyond * step_us
    return last_us >= run.min_end_us and last_us > after_us


def idle_ledger(source: SourceState, slice_: Slice, nodes: Mapping[str, Source]) -> SourceState:
    """The ledger of `source` if the slice held no rows."""
    return advance_source(
        source,
        (),
        delay_us=nodes[source.name].delay_us,
        batch_time_us=slice_.batch_time_us if nodes[source.name].takes_batch_time else None,
        idle={p for name, p in slice_.idle if name == source.name},
        finished={p for name, p in slice_.finished if name == source.name},
    )


def is_last(sources: Sequence[SourceState], finished: frozenset[tuple[str, str]]) -> bool:
    """Whether all input ends with this slice (and did not end before)."""
    lines = [(s.name, line) for s in sources for line in s.partitions]
    ended_before = all(line.status is Status.FINISHED for _, line in lines)
    return not ended_before and all((name, line.partition) in finished for name, line in lines)
