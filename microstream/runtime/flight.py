"""What the driver remembers of one attempt at one batch: its slice, tasks that are out, receipts that are in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

from microstream.checkpoint.counting import NO_TRAFFIC, Traffic
from microstream.checkpoint.manifest import SourceState
from microstream.connectors.protocol import Range
from microstream.observe.progress import BatchFigures, OperatorFigures, SourceFigures
from microstream.plan.stages import Stages
from microstream.runtime.assembly import Watermarks
from microstream.runtime.planning import Slice
from microstream.runtime.task import Attempt, Execution, PartitionMeta, StageReceipt, StageTask

__all__ = ["AttemptRecord", "lane_ranges", "stage_tasks"]


@dataclass(slots=True, kw_only=True)
class AttemptRecord:
    """One attempt. `placed[lane]` is the worker of a lane; `late` is W(N-1), `closing` W(N) once level 0 is in.

    `closed_before` belongs to `late`; see `StageTask`.
    """

    attempt: Attempt
    slice: Slice
    placed: tuple[str, ...]
    late: Watermarks
    closed_before: Watermarks
    began_us: int
    closing: Watermarks = ()
    sources: tuple[SourceState, ...] = ()
    out: dict[tuple[int, int], StageTask] = field(default_factory=dict)
    receipts: list[StageReceipt] = field(default_factory=list)
    marks_us: dict[str, int] = field(default_factory=dict)
    """When each step ended, for the progress event."""

    def executions(self, below: int) -> tuple[Execution, ...]:
        """Executions of all lanes of the levels below, in a stable order."""
        found = [r.execution for r in self.receipts if r.execution.level < below]
        return tuple(sorted(found, key=lambda e: (e.level, e.lane)))

    def mark(self, step: str, now_us: int) -> None:
        """Note when `step` ended."""
        self.marks_us[step] = now_us

    def figures(
        self,
        ended_us: int,
        previous_us: int | None = None,
        *,
        delays_us: Mapping[str, int] | None = None,
        traffic: Traffic = NO_TRAFFIC,
    ) -> BatchFigures:
        """What the progress event says of the batch; `traffic` is the driver's own, `delays_us` is by source."""
        rows_out: Counter[str] = Counter()
        for receipt in self.receipts:
            rows_out.update({part.sink: part.rows for part in receipt.outputs})
        metas = [meta for receipt in self.receipts for meta in receipt.partitions]
        timed = [meta for meta in metas if meta.min_event_time_us <= meta.max_event_time_us]
        marks = [self.began_us, *self.marks_us.values()]
        steps = [(name, at - before) for (name, at), before in zip(self.marks_us.items(), marks, strict=False)]
        return BatchFigures(
            began_us=self.began_us,
            ended_us=ended_us,
            steps=steps,
            sources=_source_figures(self.slice, metas, delays_us or {}),
            operators=_operator_figures(self.receipts),
            rows_out=rows_out,
            event_times_us=(min(m.min_event_time_us for m in timed), max(m.max_event_time_us for m in timed))
            if timed
            else None,
            traffic=reduce(add, (receipt.traffic for receipt in self.receipts), traffic),
            previous_us=previous_us,
        )


def _source_figures(
    slice_: Slice, metas: Sequence[PartitionMeta], delays_us: Mapping[str, int]
) -> dict[str, SourceFigures]:
    return {
        source.name: SourceFigures(
            rows=sum(meta.rows for meta in metas if meta.source == source.name),
            bad=sum(meta.bad for meta in metas if meta.source == source.name),
            bytes=sum(meta.bytes for meta in metas if meta.source == source.name),
            delay_us=delays_us.get(source.name, 0),
            start={line.partition: line.next_offset for line in source.partitions},
            latest=slice_.latest.get(source.name, {}),
        )
        for source in slice_.sources
    }


def _operator_figures(receipts: Sequence[StageReceipt]) -> dict[str, OperatorFigures]:
    late: Counter[str] = Counter()
    for receipt in receipts:
        late.update(dict(receipt.late_rows))
    changes = [change for receipt in receipts for change in receipt.changes]
    return {
        name: OperatorFigures(
            late=late[name],
            held=sum(change.rows_held for change in changes if change.operator == name),
            updated=sum(change.rows_updated for change in changes if change.operator == name),
            removed=sum(change.rows_removed for change in changes if change.operator == name),
            memory_bytes=sum(change.memory_bytes for change in changes if change.operator == name),
        )
        for name in {*late, *(change.operator for change in changes)}
    }


def lane_ranges(
    ranges: tuple[Range, ...], partitions: dict[tuple[str, str], int], lanes: int
) -> list[tuple[Range, ...]]:
    """Ranges of each source lane; a partition sticks to its lane, so that its consumer keeps its position."""
    by_lane: list[list[Range]] = [[] for _ in range(lanes)]
    for piece in ranges:
        by_lane[partitions[piece.source, piece.partition] % lanes].append(piece)
    return [tuple(pieces) for pieces in by_lane]


def stage_tasks(record: AttemptRecord, stages: Stages, level: int, base_at: tuple[int, str] | None) -> list[StageTask]:
    """The tasks of `level`, one per lane; at level 0 only lanes that have something to read (or the first)."""
    lanes = len(record.placed)
    order = [(s.name, line.partition) for s in record.slice.sources for line in s.partitions]
    per_lane = lane_ranges(record.slice.ranges, {key: place for place, key in enumerate(order)}, lanes)
    reading = [lane for lane in range(lanes) if per_lane[lane]] or [0]
    upper = len(stages.stages) - 1
    tasks = []
    for lane in reading if level == 0 else range(lanes):
        address = record.placed[lane]
        share = sum(record.placed[other] == address for other in reading)
        share += upper * sum(other == address for other in record.placed)
        tasks.append(
            StageTask(
                attempt=record.attempt,
                level=level,
                lane=lane,
                lanes=lanes,
                ranges=per_lane[lane] if level == 0 else (),
                upstream=record.executions(level),
                late=record.late,
                closing=record.closing if level else (),
                base_at=base_at,
                seal_after=share,
                closed_before=record.closed_before,
            )
        )
    return tasks
