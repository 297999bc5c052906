"""What each sink still has to publish, and in which order. Pure.

Batch N + 1 of a sink starts only when all lanes confirmed N: otherwise the unknown outcome of a lane's N would be
hidden by its marker N + 1, and the order per key would break when lanes change. Sinks do not wait for each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from microstream.checkpoint.manifest import OutboxBatch, SinkState

__all__ = ["Active", "Publishing", "after_batch", "backlog", "confirm", "enqueue", "start_due"]


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


def enqueue(state: Publishing, batch: int, outbox: tuple[tuple[str, OutboxBatch], ...]) -> Publishing:
    """`batch` is durable with these rows for these sinks; a sink without rows has nothing to confirm."""
    rows = dict(outbox)
    return replace(state, sinks=tuple(after_batch(sink, batch, rows.get(sink.name)) for sink in state.sinks))


def after_batch(sink: SinkState, batch: int, rows: OutboxBatch | None) -> SinkState:
    """`sink` after `batch` left it `rows`, or none: then, if nothing else waits, it is confirmed through `batch`."""
    if rows is not None:
        lanes = 1 + max(lane.lane for lane in rows.lanes)
        return replace(sink, pending=(*sink.pending, rows), lanes=max(sink.lanes, lanes))
    return sink if sink.pending else replace(sink, published_through=max(batch, sink.published_through))


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
