"""The planning loop: asks the sources, waits for the trigger, and hands the next slice to the pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from microstream.checkpoint.manifest import SourceState, Status
from microstream.clock import END_US
from microstream.runtime.delivery import Delivery
from microstream.runtime.head import Head
from microstream.runtime.pipeline import Pipeline
from microstream.runtime.planning import (
    Slice,
    closes_something,
    cut_ends,
    ended,
    finished_partitions,
    idle_partitions,
    not_behind,
    views,
)
from microstream.runtime.ports import Ports, QuerySpec
from microstream.runtime.slicing import FIRST_RECORDS, Limits, adapt_records, choose, relieve, span_bound_us
from microstream.runtime.sources import BoundsBySource, SourceWatch
from microstream.runtime.trigger import AvailableNow, Continuously, Every

__all__ = ["Ends", "Planner"]

Ends = Mapping[str, Mapping[str, int]]
"""Source -> partition -> offset."""

LIVE_PENDING = 2
"""Without a backlog, a third batch waiting for the sink would only add latency: rows had better join the second."""


BACKLOG_ASK_US = 1_000_000
FRUITLESS = 100
SLOW_POLL_US = 50_000
"""An idle stream is asked at last every 50 ms: an event that ends a silence waits that much longer."""


class Planner:
    """Decides, again and again, whether a batch is due, and which offsets it reads."""

    def __init__(
        self,
        query: QuerySpec,
        ports: Ports,
        watch: SourceWatch,
        head: Head,
        pipeline: Pipeline,
        delivery: Delivery,
    ) -> None:
        self._query, self._ports, self._watch = query, ports, watch
        self._head, self._pipeline, self._delivery = head, pipeline, delivery
        self._wake = asyncio.Event()
        self._stopped = False
        self._backlog = False
        self._found: BoundsBySource = {}
        self._asked_us = 0
        self._fruitless = 0
        self._exhausted = False
        self._records = min(FIRST_RECORDS, query.settings.max_records)
        self._last_start_us: int | None = None
        self._until: Ends | None = None
        self._input_ends = False

    def stop(self) -> None:
        """Plan nothing more."""
        self._stopped = True
        self._wake.set()

    def end_input(self) -> None:
        """From now on every source ends where it was read to."""
        self._input_ends = True
        self._wake.set()

    @property
    def is_exhausted(self) -> bool:
        """Whether there was nothing to read when the sources were asked last."""
        return self._exhausted

    def wake(self) -> None:
        """Something moved: look again whether a batch is wanted."""
        self._wake.set()

    async def run(self) -> None:
        """Plan until `stop`, the end of all input, or (available_now) the ends found at the start."""
        if isinstance(self._query.trigger, AvailableNow):
            self._until = await self.ends()
        while not (self._stopped or self._is_over()):
            if not self._is_wanted():
                self._wake.clear()
                await self._wake.wait()
                continue
            await self._until_due()
            version = (self._pipeline.version, self._pipeline.next_batch)
            slice_ = await self._slice()
            if version != (self._pipeline.version, self._pipeline.next_batch) or not self._is_wanted():
                continue
            self._exhausted = slice_ is None
            if slice_ is None:
                await self._rest()
                continue
            self._fruitless = 0
            self._last_start_us = self._ports.clock.now_us()
            self._pipeline.plan(slice_)

    async def ends(self) -> Ends:
        """Where every partition ends now."""
        return _ends(await self._watch.bounds())

    def has_committed(self, ends: Ends) -> bool:
        """Whether the newest manifest lies at or beyond `ends`."""
        at = {(s.name, line.partition): line.next_offset for s in self._head.manifest.sources for line in s.partitions}
        return all(
            at.get((name, partition), 0) >= end
            for name, of_source in ends.items()
            for partition, end in of_source.items()
        )

    def _is_over(self) -> bool:
        if self._head.manifest.finished:
            return True
        if self._until is None or not self._exhausted:
            return False
        return self._pipeline.is_idle and self.has_committed(self._until)

    def _is_wanted(self) -> bool:
        if self._stopped or not self._pipeline.may_plan():
            return False
        live = isinstance(self._query.trigger, Continuously) and not self._backlog
        return self._delivery.has_room(LIVE_PENDING if live else self._query.settings.pending_batches)

    async def _until_due(self) -> None:
        if isinstance(self._query.trigger, Every) and self._last_start_us is not None and not self._backlog:
            due_us = self._last_start_us + self._query.trigger.interval_us
            await asyncio.sleep(max(0, due_us - self._ports.clock.now_us()) / 1e6)

    async def _rest(self) -> None:
        """Nothing to do now: ask again soon, and less and less often while nothing comes."""
        self._fruitless += 1
        if isinstance(self._query.trigger, Every):
            self._last_start_us = self._ports.clock.now_us()
        poll_us = self._query.settings.poll_us
        await asyncio.sleep(min(poll_us + poll_us * self._fruitless / FRUITLESS, max(poll_us, SLOW_POLL_US)) / 1e6)

    def _limits(self) -> Limits:
        settings, trigger = self._query.settings, self._query.trigger
        interval_us = trigger.interval_us if isinstance(trigger, Every) else 0
        target_s = max(interval_us, settings.batch_target_us) / 1e6
        for rows, seconds in self._pipeline.take_completed():
            self._records = adapt_records(self._records, rows, seconds, target_s, settings.max_records)
        return Limits(
            max_records=relieve(self._records, self._ports.engine.memory_fraction()),
            max_bytes=settings.max_bytes,
            max_span_us=settings.max_span_us,
        )

    async def _slice(self) -> Slice | None:
        """What a batch would read now; None when there is nothing to read and nothing to close."""
        found = {} if self._input_ends else await self._bounds()
        ledger = self._pipeline.ledger()
        if self._input_ends:
            found = {source.name: ended(source) for source in ledger}
        until = self._until or {}
        bounds = {name: cut_ends(at, until.get(name)) for name, at in found.items()}
        bounds = {source.name: not_behind(source, bounds[source.name]) for source in ledger}
        sources = await self._watch.current(ledger, bounds)
        now_us = self._ports.clock.now_us()
        seen = views(sources, self._watch.nodes, bounds, self._pipeline.record_bytes)
        self._watch.note_quiet(seen, now_us)
        limits = self._limits()
        self._backlog = sum(view.lag for view in seen) > limits.max_records
        bound_us = span_bound_us(seen, limits)
        beyond = await self._watch.first_beyond(seen, bound_us) if bound_us != END_US else {}
        ranges = choose(seen, limits, beyond)
        slice_ = Slice(
            batch=self._pipeline.next_batch,
            batch_time_us=max(now_us, self._pipeline.batch_time_us() + 1),
            ranges=ranges,
            sources=sources,
            idle=await self._idle(sources, now_us),
            finished=finished_partitions(sources, bounds, ranges),
            latest=_ends(found),
        )
        # New partitions, and records that retention removed, are put on record even if there is nothing to read.
        return slice_ if ranges or sources != ledger or self._closes(slice_) else None

    async def _bounds(self) -> BoundsBySource:
        """What sources hold. With a backlog, an answer of a moment ago is as good: a batch takes less."""
        now_us = self._ports.clock.now_us()
        if not (self._backlog and now_us - self._asked_us < BACKLOG_ASK_US):
            self._found, self._asked_us = await self._watch.glance(), now_us
        return self._found

    async def _idle(self, sources: Sequence[SourceState], now_us: int) -> frozenset[tuple[str, str]]:
        if self._until is not None:
            return frozenset()
        quiet = idle_partitions(sources, self._watch.nodes, self._watch.quiet_since, now_us)
        known = {(s.name, line.partition) for s in sources for line in s.partitions if line.status is Status.IDLE}
        return (quiet & known) | await self._watch.caught_up(quiet - known, sources)

    def _closes(self, slice_: Slice) -> bool:
        if not self._pipeline.is_idle:
            return False
        if self._delivery.is_roll_due(slice_.batch_time_us):
            return True
        operators = self._query.stages.operators
        return closes_something(slice_, self._watch.nodes, operators, self._head.manifest.operators)


def _ends(bounds: BoundsBySource) -> Ends:
    return {name: {p: at.end for p, at in of_source.items()} for name, of_source in bounds.items()}
