"""From receipts to the manifest of a batch: checks what workers say, then writes the next checkpoint. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from microstream.checkpoint.manifest import (
    HASH_SPACE,
    Kind,
    Manifest,
    OperatorState,
    OutboxBatch,
    OutboxLane,
    Run,
    Segment,
    SinkState,
    SourceState,
)
from microstream.errors import InternalError
from microstream.plan.nodes import Source
from microstream.plan.stages import Operator
from microstream.runtime.planning import Slice, is_last
from microstream.runtime.publishing import after_batch
from microstream.runtime.task import PartitionMeta, StageReceipt, StageTask
from microstream.runtime.watermark import advance_source, closed_for_good_us, is_finished, operator_watermark

__all__ = [
    "Watermarks",
    "assemble",
    "closed_before",
    "ledger_after",
    "outbox_of",
    "receipt_problems",
    "unsealed",
    "watermarks_after",
]

NOTHING_LEFT: Final = OutboxLane(lane=0, segments=(), chunks=(0,))

Watermarks = tuple[tuple[str, int], ...]
"""(operator id, watermark of its input), in the plan's order."""


def receipt_problems(task: StageTask, receipt: StageReceipt) -> tuple[str, ...]:
    """Why `receipt` cannot be the answer to `task`; empty if it is.

    A Dask task key that two drivers share, a task that ran twice or a worker of another epoch would show here.
    """
    problems = []
    if receipt.attempt != task.attempt:
        problems.append(f"it is for {receipt.attempt}")
    if (receipt.execution.level, receipt.execution.lane) != (task.level, task.lane):
        problems.append(f"it is for level {receipt.execution.level}, lane {receipt.execution.lane}")
    if receipt.ranges != task.ranges:
        problems.append(f"it read {receipt.ranges}, not {task.ranges}")
    if receipt.closing != task.closing:
        problems.append(f"its watermarks are {receipt.closing}, not {task.closing}")
    if receipt.consumed != task.upstream:
        problems.append("it consumed other executions than it was given")
    read = tuple((meta.source, meta.partition, meta.start, meta.end) for meta in receipt.partitions)
    asked = tuple((r.source, r.partition, r.start, r.end) for r in task.ranges)
    if read != asked:
        problems.append(f"it describes {read}, not {asked}")
    return tuple(problems)


def ledger_after(slice_: Slice, nodes: Mapping[str, Source], metas: Iterable[PartitionMeta]) -> tuple[SourceState, ...]:
    """All sources after the batch."""
    by_source: dict[str, list[PartitionMeta]] = {}
    for meta in metas:
        by_source.setdefault(meta.source, []).append(meta)
    return tuple(
        advance_source(
            source,
            by_source.get(source.name, ()),
            delay_us=nodes[source.name].delay_us,
            batch_time_us=slice_.batch_time_us if nodes[source.name].takes_batch_time else None,
            idle={p for name, p in slice_.idle if name == source.name},
            finished={p for name, p in slice_.finished if name == source.name},
        )
        for source in slice_.sources
    )


def watermarks_after(before: Watermarks, operators: Sequence[Operator], sources: Sequence[SourceState]) -> Watermarks:
    """W(N) of every operator's input, from W(N-1) and the ledger of N."""
    previous, by_name = dict(before), {source.name: source for source in sources}
    return tuple((o.id, operator_watermark(previous[o.id], o.sources, by_name)) for o in operators)


def closed_before(head: Manifest, watermarks: Watermarks, operators: Sequence[Operator]) -> Watermarks:
    """Before what windows of each operator take no more rows, once `watermarks` were reached."""
    reached, held = dict(watermarks), {state.id: state.closed_before_us for state in head.operators}
    return tuple((o.id, closed_for_good_us(o.node, held[o.id], reached[o.id])) for o in operators)


def unsealed(receipts: Sequence[StageReceipt]) -> tuple[str, ...]:
    """Parts that receipts announce and no bundle holds: such an attempt cannot be committed."""
    stored = _stored(receipts)
    missing = []
    for receipt in receipts:
        place = f"level {receipt.execution.level}, lane {receipt.execution.lane}"
        missing += [f"{name} of {place}" for name in _parts(receipt) if (receipt.execution.id, name) not in stored]
    return tuple(missing)


def outbox_of(
    slice_: Slice, receipts: Sequence[StageReceipt], whole: Collection[str] = ()
) -> tuple[tuple[str, OutboxBatch], ...]:
    """(sink, its rows) of the batch; sinks that got no rows are left out.

    Those of `whole` get all there is in every batch, so that without rows they are to learn that nothing is left.
    """
    stored = _stored(receipts)
    lanes: dict[str, dict[int, OutboxLane]] = {sink: {} for sink in whole}
    for receipt in sorted(receipts, key=lambda r: (r.execution.level, r.execution.lane)):
        for part in receipt.outputs:
            if not part.chunks:
                continue
            segment = stored[receipt.execution.id, f"sink:{part.sink}"]
            of_sink = lanes.setdefault(part.sink, {})
            lane = 0 if part.together else receipt.execution.lane
            of_sink[lane] = _append(of_sink.get(lane), lane, segment, part.chunks)
    return tuple(
        (
            sink,
            OutboxBatch(
                batch=slice_.batch,
                time_us=slice_.batch_time_us,
                lanes=tuple(of_sink[k] for k in sorted(of_sink)) or (NOTHING_LEFT,),
            ),
        )
        for sink, of_sink in sorted(lanes.items())
    )


def _append(before: OutboxLane | None, lane: int, segment: Segment, chunks: tuple[int, ...]) -> OutboxLane:
    if before is None:
        return OutboxLane(lane=lane, segments=(segment,), chunks=chunks)
    shift = before.chunks[-1]
    return OutboxLane(
        lane=lane,
        segments=(*before.segments, segment),
        chunks=(*before.chunks, *(shift + bound for bound in chunks)),
    )


def assemble(
    head: Manifest,
    *,
    commit_id: str,
    slice_: Slice,
    sources: tuple[SourceState, ...],
    watermarks: Watermarks,
    operators: Sequence[Operator],
    receipts: Sequence[StageReceipt],
    sinks: tuple[SinkState, ...],
    whole: Collection[str] = (),
    now_us: int,
) -> Manifest:
    """The manifest of the batch, following `head`; `sinks` are as confirmed until now, for `whole` see `outbox_of`."""
    if slice_.batch != head.batch + 1:
        raise InternalError(f"batch {slice_.batch} cannot follow batch {head.batch}", batch=slice_.batch)
    outbox = dict(outbox_of(slice_, receipts, whole))
    reached, closed_us = dict(watermarks), dict(closed_before(head, watermarks, operators))
    finished = head.finished or (is_finished(sources) and is_last(slice_.sources, slice_.finished))
    time_us = slice_.batch_time_us
    return replace(
        head,
        seq=head.seq + 1,
        parent=head.commit_id,
        commit_id=commit_id,
        kind=Kind.BATCH,
        finished=finished,
        batch=slice_.batch,
        batch_time_us=time_us,
        written_us=now_us,
        sources=sources,
        operators=tuple(
            _operator(state, reached[state.id], closed_us[state.id], slice_.batch, receipts) for state in head.operators
        ),
        sinks=tuple(
            after_batch(sink, slice_.batch, outbox.get(sink.name), time_us=time_us, last=finished) for sink in sinks
        ),
    )


def _operator(
    state: OperatorState, watermark_us: int, closed_us: int, batch: int, receipts: Sequence[StageReceipt]
) -> OperatorState:
    stored = _stored(receipts)
    ends = (*state.lane_starts[1:], HASH_SPACE)
    dropped: set[tuple[int, int]] = set()
    added = []
    for receipt in receipts:
        lane, execution = receipt.execution.lane, receipt.execution.id
        for change in receipt.changes:
            if change.operator != state.id:
                continue
            dropped |= set(change.dropped)
            if change.added is not None:
                added.append(
                    Run(
                        segment=stored[execution, f"run:{state.id}"],
                        batch=batch,
                        level=change.added.level,
                        lo=state.lane_starts[lane],
                        hi=ends[lane],
                        min_end_us=change.added.min_end_us,
                        max_end_us=change.added.max_end_us,
                    )
                )
    kept = tuple(run for run in state.runs if (run.batch, run.lo) not in dropped)
    added.sort(key=lambda run: run.lo)
    return replace(state, watermark_us=watermark_us, closed_before_us=closed_us, runs=(*kept, *added))


def _parts(receipt: StageReceipt) -> list[str]:
    runs = [f"run:{change.operator}" for change in receipt.changes if change.added is not None]
    return runs + [f"sink:{part.sink}" for part in receipt.outputs if part.chunks]


def _stored(receipts: Iterable[StageReceipt]) -> dict[tuple[str, str], Segment]:
    return {(sealed.execution, sealed.name): sealed.segment for r in receipts for sealed in r.sealed}
