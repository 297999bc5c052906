"""Taking a checkpoint into ownership, and looking at sinks, before the first batch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar, cast

from microstream.checkpoint.codec import JobFile
from microstream.checkpoint.commit import check_not_fenced, commit, head
from microstream.checkpoint.manifest import Kind, Manifest, SinkState
from microstream.checkpoint.store import StoreError
from microstream.checkpoint.takeover import (
    Refuse,
    Wait,
    check_belongs,
    claim,
    fence,
    job_of,
    may_take_over,
    watch,
)
from microstream.connectors.protocol import SinkConnector
from microstream.errors import CheckpointError, PlanError, UnreachableError
from microstream.runtime.changes import given_up
from microstream.runtime.connecting import remember_schemas
from microstream.runtime.patience import patiently
from microstream.runtime.ports import Ports, QuerySpec
from microstream.runtime.recovery import StartOffsets, first_manifest, new_sources, resumed
from microstream.runtime.sources import SourceWatch

__all__ = ["check_sinks", "open_head"]

T = TypeVar("T")

log = logging.getLogger("microstream.driver")

NONE_VISIBLE = -1

WATCH_EVERY_S = 1.0


async def open_head(query: QuerySpec, ports: Ports, watched: SourceWatch, announce: Callable[[str], None]) -> Manifest:
    """Own the checkpoint: the first manifest of this driver's epoch, as this plan continues the query.

    Nothing is written before it is clear that the plan fits the checkpoint and that nobody else is at work.

    Raises
    ------
    PlanError
        The plan does not fit the checkpoint, or a finished query has new input.
    CheckpointError
        The checkpoint cannot be used, or another driver is at work.
    FencedError
        Another driver took over meanwhile.
    """
    store, stages = ports.store, query.stages
    await _patient(query, ports, announce, store.probe)
    before = await _patient(query, ports, announce, lambda: head(store))
    if before is not None:
        await _wait_for_turn(before, query, ports, announce)
        before = await _patient(query, ports, announce, lambda: head(store))
    starts = await watched.starts(new_sources(before, stages), query.default_start)
    fresh = JobFile(job=ports.new_id(), created_us=ports.clock.now_us())
    if before is not None:
        going_on = resumed(before, stages, lanes=query.lanes or before.lanes, starts=starts, on_change=query.on_change)
        await _refuse_more_input(going_on, watched)
    job = await _patient(query, ports, announce, lambda: job_of(store, fresh))
    if before is not None:
        check_belongs(before, job=job.job, url=store.url)
    epoch = await _patient(query, ports, announce, lambda: claim(store, ports.owner, now_us=ports.clock.now_us()))
    fenced = await _patient(
        query,
        ports,
        announce,
        lambda: fence(store, lambda newest: _follow(newest, query, ports, job.job, epoch, starts), epoch=epoch),
    )
    first = await _continue(fenced, query, ports, starts, announce)
    await _patient(query, ports, announce, lambda: remember_schemas(stages.sources, store))
    return first


def _follow(
    newest: Manifest | None, query: QuerySpec, ports: Ports, job: str, epoch: int, starts: StartOffsets
) -> Manifest:
    """The first manifest of an epoch: the start of a new query, or the same state under a new owner."""
    if newest is None:
        return first_manifest(
            query.stages,
            job=job,
            commit_id=ports.new_id(),
            epoch=epoch,
            owner=str(ports.owner),
            url=ports.store.url,
            lanes=query.lanes or query.default_lanes,
            starts=starts,
            now_us=ports.clock.now_us(),
        )
    return replace(_following(newest, ports, Kind.FENCE), epoch=epoch, owner=str(ports.owner), url=ports.store.url)


def _following(manifest: Manifest, ports: Ports, kind: Kind) -> Manifest:
    return replace(
        manifest,
        seq=manifest.seq + 1,
        parent=manifest.commit_id,
        commit_id=ports.new_id(),
        written_us=ports.clock.now_us(),
        kind=kind,
    )


async def _continue(
    fenced: Manifest, query: QuerySpec, ports: Ports, starts: StartOffsets, announce: Callable[[str], None]
) -> Manifest:
    """Bring new sources, sinks, operators and lanes into the checkpoint before anything reads them."""
    if fenced.kind is Kind.START:
        return fenced
    going_on = resumed(
        fenced, query.stages, lanes=query.lanes or fenced.lanes, starts=starts, on_change=query.on_change
    )
    if going_on == fenced:
        return fenced
    for left in given_up(fenced, query.stages, query.on_change):
        log.warning("query %s: %s; on_change says %r, so it is given up.", query.name, left.text, left.change)
    following = _following(going_on, ports, Kind.START)
    await _patient(query, ports, announce, lambda: commit(ports.store, following, previous=fenced, epoch=fenced.epoch))
    return following


async def _wait_for_turn(first: Manifest, query: QuerySpec, ports: Ports, announce: Callable[[str], None]) -> None:
    """Watch the head of a checkpoint that a driver elsewhere may own; refuse if one is at work."""
    watch_us = query.settings.takeover_watch_us
    decision = may_take_over(first, ports.owner, query.takeover, ports.alive_here, watch_us=watch_us)
    began_us = ports.clock.now_us()
    while isinstance(decision, Wait):
        announce(f"watching whether the last owner of the checkpoint still works, {watch_us / 1e6:.0f} s at most")
        await asyncio.sleep(min(WATCH_EVERY_S, decision.watch_us / 1e6))
        newest = await _patient(query, ports, announce, lambda: head(ports.store))
        watched_us = ports.clock.now_us() - began_us
        decision = watch(first, newest or first, watched_us=watched_us, watch_us=watch_us)
    if isinstance(decision, Refuse):
        raise CheckpointError.of(f"query {query.name}", [decision.reason.rstrip(".")], "Nothing was changed.")


async def _refuse_more_input(before: Manifest, watched: SourceWatch) -> None:
    """A finished query published +infinity as its watermark: rows after that could only be lost."""
    if not before.finished:
        return
    bounds = await watched.bounds()
    for source in before.sources:
        read = {line.partition: line.next_offset for line in source.partitions}
        for partition, at in bounds.get(source.name, {}).items():
            following = read.get(partition, at.low)
            if at.end > following:
                raise PlanError(
                    f"the query of checkpoint {before.url} is finished, but source {source.name} has more input "
                    f"({partition} from offset {following} on). Use a new checkpoint folder; and to go on later, a "
                    "source without an end (watch=True, a topic without end=) and ms.available_now()."
                )


async def check_sinks(query: QuerySpec, ports: Ports, manifest: Manifest, announce: Callable[[str], None]) -> None:
    """Look at every sink before anything is published.

    Raises
    ------
    ConnectorError
        A target is missing or may not be written.
    FencedError
        Another driver took over meanwhile.
    CheckpointError
        A sink holds a batch that this checkpoint has not committed, so the checkpoint is older than the sink; or a
        pending batch is so old that its marker has expired.
    """
    states = {sink.name: sink for sink in manifest.sinks}
    for sink in query.stages.sinks:
        probe = cast(SinkConnector, sink.spec).open_probe()
        state = states[sink.name]
        try:
            await _patient_source(query, ports, announce, probe.check)
            # All lanes, not only those that this manifest knows to have published: it may be an older copy.
            lanes = range(max(state.lanes, manifest.lanes))
            ask = partial(probe.markers, manifest.job, state.name, lanes)
            markers = await _patient_source(query, ports, announce, ask)
        finally:
            await ports.offload(probe.close)
        expired_us = ports.clock.now_us() - query.settings.marker_retention_us
        exactly_once = sink.spec.durable and sink.spec.guarantee == "exactly once"
        problems = _marker_problems(state, markers, manifest, expired_us, exactly_once)
        if sink.spec.publication.lasting and _has_published(state) and markers[0] in (None, NONE_VISIBLE):
            raise CheckpointError.of(
                f"query {query.name}, checkpoint {manifest.url}",
                [f"sink {state.name}: {state.target} has nothing of what this query published there"],
                "It was emptied, or is another folder. Nothing was published. Bring it back, or write to a new folder; "
                "to write everything again, start with a new checkpoint and a new folder.",
            )
        if problems:
            # Or another driver took over meanwhile, and it is this one that is behind.
            await _patient(query, ports, announce, lambda: check_not_fenced(ports.store, manifest.epoch))
            raise CheckpointError.of(
                f"query {query.name}, checkpoint {manifest.url}",
                problems,
                "Nothing was published. Restore the newest copy of the checkpoint, or start with a new one.",
            )


def _has_published(sink: SinkState) -> bool:
    """Whether its target holds rows; not said of one that still has some to publish, which may be its first."""
    return sink.lanes > 0 and not sink.pending and not sink.held


def _marker_problems(
    sink: SinkState, markers: Mapping[int, int | None], manifest: Manifest, expired_us: int, exactly_once: bool
) -> list[str]:
    ahead = [
        f"sink {sink.name} lane {lane} holds batch {marker}, but the checkpoint ends at batch {manifest.batch}: it was "
        "rolled back to an older copy"
        for lane, marker in markers.items()
        if marker is not None and marker > manifest.batch
    ]
    unknown = [
        f"batch {pending.batch} of sink {sink.name} is pending longer than brokers keep markers, and lane "
        f"{lane.lane} has none: it may have been published or not (setting marker_retention: how long they keep them)"
        for pending in sink.pending
        for lane in pending.lanes
        if pending.time_us < expired_us and exactly_once and markers.get(lane.lane) is None
    ]
    return ahead + unknown


async def _patient(query: QuerySpec, ports: Ports, announce: Callable[[str], None], call: Callable[[], T]) -> T:
    """`call()` off the loop, again while the store does not answer."""
    return await _retried(StoreError, query.settings.store_wait_us, ports, announce, call)


async def _patient_source(query: QuerySpec, ports: Ports, announce: Callable[[str], None], call: Callable[[], T]) -> T:
    """`call()` off the loop, again while a broker does not answer."""
    return await _retried(UnreachableError, query.settings.source_wait_us, ports, announce, call)


async def _retried(
    away: type[Exception], bound_us: int, ports: Ports, announce: Callable[[str], None], call: Callable[[], T]
) -> T:
    return await patiently(
        lambda: ports.offload(call),
        away=away,
        bound_us=bound_us,
        clock=ports.clock,
        jitter_s=ports.jitter_s,
        announce=announce,
    )
