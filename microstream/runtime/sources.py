"""The driver's eyes on its sources: probes asked off the loop, with patience, and how long each partition is quiet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from microstream.checkpoint.manifest import SourceState
from microstream.checkpoint.store import StoreError
from microstream.connectors.protocol import Bounds, Probe
from microstream.errors import UnreachableError
from microstream.plan.nodes import Source
from microstream.runtime.connecting import connector_of
from microstream.runtime.patience import patiently
from microstream.runtime.planning import check_offsets, discover, skip_expired
from microstream.runtime.ports import Ports
from microstream.runtime.recovery import StartOffsets
from microstream.runtime.slicing import PartitionView
from microstream.settings import Settings

__all__ = ["BoundsBySource", "SourceWatch"]

T = TypeVar("T")

LOOK_US = 1_000_000
"""How long partitions and low offsets are taken to be as they were."""

BoundsBySource = Mapping[str, Mapping[str, Bounds]]


class SourceWatch:
    """All sources of one query; a source that does not answer is waited for."""

    def __init__(
        self, nodes: Sequence[Source], ports: Ports, settings: Settings, announce: Callable[[str], None]
    ) -> None:
        self.nodes = {node.name: node for node in nodes}
        self._probes: dict[str, Probe] = {node.name: connector_of(node, ports.store).open_probe() for node in nodes}
        self._ports, self._settings, self._announce = ports, settings, announce
        self._offload = ports.offload
        self._identity: dict[tuple[str, int], Mapping[str, str]] = {}
        self.quiet_since: dict[tuple[str, str], int] = {}
        self._found: BoundsBySource = {}
        self._looked_us = 0
        self._turn = asyncio.Lock()

    async def starts(self, sources: Sequence[Source], default: str) -> StartOffsets:
        """First offsets and topic ids of `sources`; `default` counts where a source names no start."""
        starts = {}
        for node in sources:
            probe, start = self._probes[node.name], getattr(node.spec, "start", None) or default
            offsets = await self._ask(partial(probe.start_offsets, start))
            starts[node.name] = (offsets, await self._ask(probe.identity))
        return starts

    async def bounds(self) -> BoundsBySource:
        """Low and end of every partition now; waits for sources that do not answer."""
        self._found = {name: await self._ask(probe.bounds) for name, probe in self._probes.items()}
        self._looked_us = self._ports.clock.now_us()
        return self._found

    async def glance(self) -> BoundsBySource:
        """As `bounds`, but new partitions, and what retention removed, may go unseen for a moment."""
        if self._ports.clock.now_us() - self._looked_us >= LOOK_US:
            return await self.bounds()
        return {name: await self._glance(name) for name in self._probes}

    async def _glance(self, name: str) -> Mapping[str, Bounds]:
        known, ends = self._found[name], await self._ask(self._probes[name].ends)
        if ends is None or ends.keys() != known.keys():
            return await self._ask(self._probes[name].bounds)
        return {partition: replace(at, end=ends[partition]) for partition, at in known.items()}

    async def _ask(self, question: Callable[[], T]) -> T:
        return await patiently(
            lambda: self._alone(question),
            away=(UnreachableError, StoreError),
            bound_us=self._settings.source_wait_us,
            clock=self._ports.clock,
            jitter_s=self._ports.jitter_s,
            announce=self._announce,
        )

    async def _alone(self, question: Callable[[], T]) -> T:
        """Probes are not thread-safe, and users ask for lag while the planner asks for more."""
        async with self._turn:
            return await self._offload(question)

    async def current(self, sources: Sequence[SourceState], bounds: BoundsBySource) -> tuple[SourceState, ...]:
        """`sources` with new partitions, checked against what their topics still hold."""
        checked = []
        for source in sources:
            at, node = bounds[source.name], self.nodes[source.name]
            if getattr(node.spec, "on_data_loss", "fail") == "skip":
                source = skip_expired(source, at)
            check_offsets(source, at, await self._topic_ids(source.name, at))
            checked.append(discover(source, at))
        return tuple(checked)

    async def _topic_ids(self, name: str, bounds: Mapping[str, Bounds]) -> Mapping[str, str]:
        """Asked at start and when partitions appear; a topic created again in between shows by its end offsets."""
        key = (name, len(bounds))
        if key not in self._identity:
            self._identity[key] = await self._ask(self._probes[name].identity)
        return self._identity[key]

    async def first_beyond(self, views: Sequence[PartitionView], time_us: int) -> dict[tuple[str, str], int | None]:
        """First offset of each partition whose record time is at or after `time_us`."""
        beyond: dict[tuple[str, str], int | None] = {}
        for name, probe in self._probes.items():
            partitions = [v.partition for v in views if v.source == name and v.lag and not v.takes_batch_time]
            if partitions:
                offsets = await self._ask(partial(probe.offsets_at, time_us, partitions))
                beyond |= {(name, partition): offset for partition, offset in offsets.items()}
        return beyond

    def note_quiet(self, views: Sequence[PartitionView], now_us: int) -> None:
        """Remember since when each partition has been caught up."""
        for view in views:
            key = (view.source, view.partition)
            if view.lag:
                self.quiet_since.pop(key, None)
            else:
                self.quiet_since.setdefault(key, now_us)

    async def caught_up(
        self, candidates: frozenset[tuple[str, str]], sources: Sequence[SourceState]
    ) -> frozenset[tuple[str, str]]:
        """Those of `candidates` (source, partition) that hold nothing unread, not even in an open transaction."""
        caught_up = set()
        for source in sources:
            mine = {partition for name, partition in candidates if name == source.name}
            if mine:
                ends = await self._ask(self._probes[source.name].unstable_ends)
                caught_up |= {
                    (source.name, line.partition)
                    for line in source.partitions
                    if line.partition in mine and line.next_offset >= ends.get(line.partition, 0)
                }
        return frozenset(caught_up)

    async def close(self) -> None:
        """Let go of all connections."""
        for probe in self._probes.values():
            await self._offload(probe.close)
