"""Slicing: which offsets the next batch reads. Pure; the driver brings what the brokers say.

Without a backlog a slice is everything up to the stable ends. With one, the partitions that cannot be drained advance
through event time together: none is read further than `max_span_us` past the slowest of them, so that a backfill keeps
as little state open as live traffic does (and an early partition's rows never make a late one's rows late).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from microstream.clock import BEGINNING_US, END_US
from microstream.connectors.protocol import Range

__all__ = ["Limits", "PartitionView", "adapt_records", "choose", "relieve", "span_bound_us"]

FIRST_RECORDS = 100_000
"""Size of the first batch of a backlog, before any rate was measured."""
FULL_FRACTION = 0.8
MIN_RECORDS = 5_000
"""No rate is so low that a smaller batch would help: below this, the fixed cost of a batch rules."""

CROWDED_FRACTION, PAUSED_FRACTION = 0.6, 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one batch may hold, over all partitions of all sources."""

    max_records: int
    max_bytes: int
    max_span_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionView:
    """One partition at slicing: `[position, end)` is unread; `max_event_time_us` is the ledger's.

    `max_step`: this many offsets per batch whatever the limits (memory sources: one frame). `takes_batch_time`: a row
    is new whenever it is read, so the partition waits for no other, and none for it.
    """

    source: str
    partition: str
    position: int
    end: int
    max_event_time_us: int
    bytes_per_record: float
    max_step: int | None = None
    takes_batch_time: bool = False

    @property
    def lag(self) -> int:
        """Offsets that a batch could read now."""
        unread = max(0, self.end - self.position)
        return unread if self.max_step is None else min(unread, self.max_step)


def adapt_records(limit: int, rows: int, seconds: float, target_s: float, max_records: int) -> int:
    """The limit of the next batch, after one of `rows` under `limit` took `seconds`.

    A full batch moves the limit toward `target_s`, by a factor of 2 at most: the fixed cost of a batch makes small ones
    look slow, so a measured rate would shrink them further and further. One that was not full says nothing.

    >>> adapt_records(100_000, 100_000, 0.25, 1.0, 2_000_000), adapt_records(100_000, 99_000, 1.25, 1.0, 2_000_000)
    (200000, 80000)
    >>> adapt_records(100_000, 10, 5.0, 1.0, 2_000_000)
    100000
    """
    if rows < FULL_FRACTION * limit:
        return limit
    factor = min(2.0, max(0.5, target_s / max(seconds, 1e-3)))
    return max(1, min(max(round(limit * factor), MIN_RECORDS), max_records))


def relieve(records: int, memory_fraction: float) -> int:
    """Fewer records while the fullest worker uses more than 60 % of its memory; Dask pauses it at 80 %.

    >>> relieve(100_000, 0.5), relieve(100_000, 0.7), relieve(100_000, 0.9)
    (100000, 50000, 5000)
    """
    left = min(1.0, max(0.0, (PAUSED_FRACTION - memory_fraction) / (PAUSED_FRACTION - CROWDED_FRACTION)))
    return max(min(records, MIN_RECORDS), round(records * left))


def span_bound_us(views: Sequence[PartitionView], limits: Limits) -> int:
    """Event time up to which partitions with a backlog may be read this time; END_US where nothing is held."""
    known = [v.max_event_time_us for v in _behind(views, limits) if v.max_event_time_us != BEGINNING_US]
    return min(known) + limits.max_span_us if known else END_US


def choose(
    views: Sequence[PartitionView], limits: Limits, first_beyond: Mapping[tuple[str, str], int | None]
) -> tuple[Range, ...]:
    """The ranges of the next batch; empty only if nothing is unread.

    Parameters
    ----------
    views
        All partitions of all sources.
    limits
        Bounds of the batch.
    first_beyond
        (source, partition) -> first offset whose *record* time is at or after `span_bound_us`; a guess, because
        record time and event time may disagree: the ledger (`max_event_time_us`) overrules it.
    """
    bound = span_bound_us(views, limits)
    behind = {(v.source, v.partition) for v in _behind(views, limits)}
    ceilings = {}
    for view in views:
        key = (view.source, view.partition)
        ceiling = view.position + view.lag
        if key in behind:
            guess = first_beyond.get(key)
            ceiling = ceiling if guess is None else min(ceiling, max(guess, view.position))
            ceiling = view.position if view.max_event_time_us > bound else ceiling
        ceilings[key] = ceiling
    held = [v for v in views if (v.source, v.partition) in behind]
    if all(ceilings[v.source, v.partition] == v.position for v in held):
        # A gap in the data: nothing lies below the bound. Whoever is slowest steps over it, also while others are live.
        for view in _slowest(held):
            ceilings[view.source, view.partition] = view.position + view.lag
    return _fill(views, ceilings, limits)


def _capacity(limits: Limits) -> int:
    """A batch as a number, of which every record takes its `_weight`: so one sum bounds records and bytes."""
    return limits.max_records * limits.max_bytes


def _weight(view: PartitionView, limits: Limits) -> int:
    return max(limits.max_bytes, math.ceil(view.bytes_per_record * limits.max_records))


def _behind(views: Sequence[PartitionView], limits: Limits) -> list[PartitionView]:
    """Partitions that this batch cannot drain. One that it can drain is live and holds nobody back.

    A source that goes step by step is neither: its next step is always taken.
    """
    unread = [v for v in views if v.lag and v.max_step is None]
    if sum(v.lag * _weight(v, limits) for v in unread) <= _capacity(limits):
        return []
    share = _capacity(limits) // len(unread)
    return [v for v in unread if v.lag * _weight(v, limits) > share and not v.takes_batch_time]


def _slowest(views: Sequence[PartitionView]) -> list[PartitionView]:
    first = min((v.max_event_time_us for v in views), default=BEGINNING_US)
    return [v for v in views if v.max_event_time_us == first]


def _fill(views: Sequence[PartitionView], ceilings: Mapping[tuple[str, str], int], limits: Limits) -> tuple[Range, ...]:
    """Share the batch evenly; what a short partition leaves over goes to the longer ones."""
    room = {view: ceilings[view.source, view.partition] - view.position for view in views}
    taken = {view: room[view] for view in views if view.max_step is not None}
    waiting = [view for view in views if view.max_step is None and room[view] > 0]
    waiting.sort(key=lambda view: room[view] * _weight(view, limits))
    left = _capacity(limits)
    for place, view in enumerate(waiting):
        if left <= 0:
            break
        weight = _weight(view, limits)
        taken[view] = min(room[view], max(1, left // (len(waiting) - place) // weight))
        left -= taken[view] * weight
    return tuple(
        Range(source=v.source, partition=v.partition, start=v.position, end=v.position + taken[v])
        for v in views
        if taken.get(v)
    )
