"""Watermarks: the ledger of each source and the event-time clock of each operator (semantics 1-8). Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from microstream.checkpoint.manifest import PartitionState, SourceState, Status
from microstream.clock import BEGINNING_US, END_US, minus
from microstream.plan.nodes import Stateful, WindowAggregate
from microstream.runtime.task import PartitionMeta

__all__ = ["advance_source", "closed_for_good_us", "is_finished", "is_wholly_idle", "operator_watermark"]


def advance_source(
    source: SourceState,
    metas: Iterable[PartitionMeta],
    *,
    delay_us: int,
    idle: Collection[str],
    finished: Collection[str],
    batch_time_us: int | None = None,
) -> SourceState:
    """The ledger after a batch that read `metas`.

    `idle` and `finished` are the partitions that slicing found caught up and quiet, or at their very end. The
    watermark never falls: a partition that wakes below it has its rows judged like any other. `batch_time_us` is given
    for a source that takes it as event time, and is its watermark, whatever was read.
    """
    read = {meta.partition: meta for meta in metas}
    partitions = tuple(
        _advance_partition(line, read.get(line.partition), idle=idle, finished=finished) for line in source.partitions
    )
    if batch_time_us is not None:
        # They slept while the source had another event time. By the clock none ever does.
        partitions = tuple(replace(p, status=Status.ACTIVE) if p.status is Status.IDLE else p for p in partitions)
    watermark = max(source.watermark_us, _watermark(partitions, delay_us, batch_time_us))
    return replace(source, partitions=partitions, watermark_us=watermark)


def _advance_partition(
    line: PartitionState, meta: PartitionMeta | None, *, idle: Collection[str], finished: Collection[str]
) -> PartitionState:
    if meta is not None:
        seen = Status.ACTIVE if meta.rows else line.status
        latest = max(line.max_event_time_us, meta.max_event_time_us)
        line = replace(line, next_offset=meta.end, max_event_time_us=latest, status=seen)
    elif line.partition in idle:
        line = replace(line, status=Status.IDLE)
    return replace(line, status=Status.FINISHED) if line.partition in finished else line


def _watermark(partitions: Collection[PartitionState], delay_us: int, batch_time_us: int | None) -> int:
    """Min over partitions that may still send; -infinity (no statement) where none may but some only sleep."""
    if partitions and all(line.status is Status.FINISHED for line in partitions):
        return END_US
    if batch_time_us is not None:
        return batch_time_us
    holding = [line for line in partitions if line.status in (Status.ACTIVE, Status.NEVER_SEEN)]
    return min((minus(line.max_event_time_us, delay_us) for line in holding), default=BEGINNING_US)


def is_wholly_idle(source: SourceState) -> bool:
    """Whether every partition that may still send is idle: then the source holds no operator back."""
    open_lines = [line for line in source.partitions if line.status is not Status.FINISHED]
    return bool(open_lines) and all(line.status is Status.IDLE for line in open_lines)


def is_finished(sources: Iterable[SourceState]) -> bool:
    """Whether no source will ever send again."""
    return all(line.status is Status.FINISHED for source in sources for line in source.partitions)


def operator_watermark(previous_us: int, inputs: Iterable[str], sources: Mapping[str, SourceState]) -> int:
    """W(N) of an operator fed by the sources `inputs`: min over those not wholly idle; all idle: it stays."""
    awake = [sources[name].watermark_us for name in inputs if not is_wholly_idle(sources[name])]
    return max(previous_us, min(awake)) if awake else previous_us


def closed_for_good_us(node: Stateful, held_us: int, watermark_us: int) -> int:
    """Windows of `node` that end at or before this take no more rows, once its input reached `watermark_us`.

    `held_us` is what it was before: windows that were closed for good under a smaller lateness stay so (semantics 38).
    """
    lateness_us = node.lateness_us if isinstance(node, WindowAggregate) else 0
    return max(held_us, minus(watermark_us, lateness_us))
