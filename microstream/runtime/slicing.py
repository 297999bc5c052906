"""Slicing: which offsets the next batch reads. Pure; the driver brings what the brokers say.

Without a backlog a slice is everything up to the stable ends. With one, the partitions that cannot be drained advance
through event time together: none is read further than `max_span_us` past the slowest of them, so that a backfill keeps
as little state open as live traffic does (and an early partition's rows never make a late one's rows late).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from microstream.clock import BEGINNING_US, END_US
from microstream.connectors.protocol import Range

__all__ = ["Limits", "PartitionView", "adapt_records", "choose", "relieve", "span_bound_us"]

FIRST_RECORDS = 100_000
"""Size of the first batch of a backlog, before any rate was measured."""
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

    `max_step`: at most so many offsets per batch whatever the limits (memory sources: one frame).
    """

    source: str
    partition: str
    position: int
    end: int
    max_event_time_us: int
    bytes_per_record: float
    max_step: int | None = None

    @property
    def lag(self) -> int:
        """Offsets that a batch could read now."""
        unread = max(0, self.end - self.position)
        return unread if self.max_step is None else min(unread, self.max_step)


def adapt_records(rate_per_s: float | None, target_s: float, max_records: int) -> int:
    """Records for a batch of about `target_s` seconds at the measured rate (None: nothing measured yet)."""
    wanted = FIRST_RECORDS if rate_per_s is None else int(rate_per_s * target_s)
    return max(1, min(max(wanted, MIN_RECORDS), max_records))


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
    if all(ceilings[v.source, v.partition] == v.position for v in views):
        # A gap in the data: nothing lies below the bound. Whoever is slowest steps over it.
        for view in _slowest(views):
            ceilings[view.source, view.partition] = view.position + view.lag
    return _fill(views, ceilings, _record_budget(views, limits))


def _record_budget(views: Sequence[PartitionView], limits: Limits) -> int:
    unread = sum(v.lag for v in views)
    size = sum(v.lag * v.bytes_per_record for v in views)
    by_bytes = limits.max_bytes / (size / unread) if size else limits.max_records
    return max(1, min(limits.max_records, int(by_bytes)))


def _behind(views: Sequence[PartitionView], limits: Limits) -> list[PartitionView]:
    """Partitions that this batch cannot drain. One that it can drain is live and holds nobody back."""
    unread = [v for v in views if v.lag]
    budget = _record_budget(views, limits)
    if sum(v.lag for v in unread) <= budget:
        return []
    share = budget // len(unread)
    return [v for v in unread if v.lag > share]


def _slowest(views: Sequence[PartitionView]) -> list[PartitionView]:
    unread = [v for v in views if v.lag]
    first = min((v.max_event_time_us for v in unread), default=0)
    return [v for v in unread if v.max_event_time_us == first]


def _fill(views: Sequence[PartitionView], ceilings: Mapping[tuple[str, str], int], budget: int) -> tuple[Range, ...]:
    """Share `budget` evenly; what a short partition leaves over goes to the longer ones."""
    ranges = {}
    waiting = sorted(
        (v for v in views if ceilings[v.source, v.partition] > v.position),
        key=lambda v: ceilings[v.source, v.partition] - v.position,
    )
    for place, view in enumerate(waiting):
        room = ceilings[view.source, view.partition] - view.position
        take = min(room, max(1, budget // (len(waiting) - place)))
        budget -= take
        key = (view.source, view.partition)
        ranges[key] = Range(source=view.source, partition=view.partition, start=view.position, end=view.position + take)
        if budget <= 0:
            break
    return tuple(ranges[v.source, v.partition] for v in views if (v.source, v.partition) in ranges)
