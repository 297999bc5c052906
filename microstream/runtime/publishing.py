"""What each sink still has to publish, and in which order. Pure.

Batch N + 1 of a sink starts only when all lanes confirmed N: otherwise the unknown outcome of a lane's N would be
hidden by its marker N + 1, and the order per key would break when lanes change. Sinks do not wait for each other.

Rows of a sink with `every_us` are held first. A *roll* makes one pending batch of all that is held; it is part of a
manifest, so that every driver publishes the same rows under the same batch id, whatever its clock says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from microstream.checkpoint.manifest import OutboxBatch, OutboxLane, SinkState

__all__ = [
    "Active",
    "Publishing",
    "after_batch",
    "backlog",
    "confirm",
    "enqueue",
    "is_roll_due",
    "roll_all",
    "start_due",
]

HELD_BYTES = 256 << 20
HELD_SEGMENTS = 2_000
"""A roll is due at so many bytes, or pieces: every manifest names all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """A batch of a sink that is being published: the lanes that have not confirmed it."""

    sink: str
    batch: int
    waiting: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishing:
    """All sinks, as the next manifest will describe them, and what is under way."""

    sinks: tuple[SinkState, ...]
    active: tuple[Active, ...] = ()


def enqueue(
    state: Publishing,
    batch: int,
    outbox: tuple[tuple[str, OutboxBatch], ...],
    *,
    time_us: int = 0,
    last: bool = False,
) -> Publishing:
    """`batch` is durable with these rows for these sinks; a sink without rows has nothing to confirm."""
    rows = dict(outbox)
    sinks = tuple(after_batch(s, batch, rows.get(s.name), time_us=time_us, last=last) for s in state.sinks)
    return replace(state, sinks=sinks)


def after_batch(
    sink: SinkState, batch: int, rows: OutboxBatch | None, *, time_us: int = 0, last: bool = False
) -> SinkState:
    """`sink` after `batch` left it `rows`, or none: then, if nothing else waits, it is confirmed through `batch`.

    `time_us` is the batch time, and `last` whether no batch will follow: both only matter for rows that are held.
    """
    if rows is not None:
        sink = replace(sink, lanes=max(sink.lanes, 1 + max(lane.lane for lane in rows.lanes)))
        if not sink.every_us:
            return replace(sink, pending=(*sink.pending, rows))
        sink = replace(sink, held=(*sink.held, rows))
    if sink.held:
        return rolled(sink, batch, time_us) if last or is_roll_due(sink, time_us) else sink
    return sink if sink.pending else replace(sink, published_through=max(batch, sink.published_through))


def is_roll_due(sink: SinkState, time_us: int) -> bool:
    """Whether a batch at `time_us` publishes what the sink holds."""
    if not sink.held:
        return False
    segments = [segment for batch in sink.held for lane in batch.lanes for segment in lane.segments]
    full = len(segments) >= HELD_SEGMENTS or sum(segment.length for segment in segments) >= HELD_BYTES
    return full or time_us - sink.held[0].time_us >= sink.every_us


def rolled(sink: SinkState, batch: int, time_us: int) -> SinkState:
    """`sink` with all that it holds as one pending batch, of one lane."""
    if not sink.held:
        return sink
    segments = tuple(segment for held in sink.held for lane in held.lanes for segment in lane.segments)
    lane = OutboxLane(lane=0, segments=segments, chunks=(sum(segment.rows for segment in segments),))
    pending = OutboxBatch(batch=batch, time_us=time_us, lanes=(lane,))
    return replace(sink, pending=(*sink.pending, pending), held=())


def roll_all(state: Publishing, batch: int, time_us: int) -> Publishing:
    """All that is held by any sink becomes pending, at the newest batch: the query ends."""
    return replace(state, sinks=tuple(rolled(sink, batch, time_us) for sink in state.sinks))


def start_due(state: Publishing) -> tuple[Publishing, tuple[tuple[str, OutboxBatch], ...]]:
    """Start the oldest pending batch of every sink that is free."""
    busy = {active.sink for active in state.active}
    due = tuple((sink.name, sink.pending[0]) for sink in state.sinks if sink.pending and sink.name not in busy)
    started = tuple(
        Active(sink=name, batch=batch.batch, waiting=frozenset(lane.lane for lane in batch.lanes))
        for name, batch in due
    )
    return replace(state, active=(*state.active, *started)), due


def confirm(state: Publishing, sink: str, batch: int, lane: int) -> Publishing:
    """`lane` of `sink` has `batch`. A repeated or stale confirmation changes nothing."""
    active = next((a for a in state.active if (a.sink, a.batch) == (sink, batch)), None)
    if active is None:
        return state
    waiting = active.waiting - {lane}
    others = tuple(a for a in state.active if a is not active)
    if waiting:
        return replace(state, active=(*others, replace(active, waiting=waiting)))
    sinks = tuple(
        replace(s, pending=s.pending[1:], published_through=batch) if s.name == sink else s for s in state.sinks
    )
    return Publishing(sinks=sinks, active=others)


def backlog(state: Publishing) -> tuple[int, int]:
    """(batches, bytes) that the fullest sink holds: admission stops when it holds too many."""
    batches = max((len(sink.pending) for sink in state.sinks), default=0)
    return batches, max((_bytes(sink) for sink in state.sinks), default=0)


def _bytes(sink: SinkState) -> int:
    return sum(s.length for batch in sink.pending for lane in batch.lanes for s in lane.segments)
