"""What the driver remembers of one attempt at one batch: its slice, tasks that are out, receipts that are in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from microstream.checkpoint.manifest import SourceState
from microstream.connectors.protocol import Range
from microstream.observe.progress import BatchFigures
from microstream.plan.stages import Stages
from microstream.runtime.assembly import Watermarks
from microstream.runtime.planning import Slice
from microstream.runtime.task import Attempt, Execution, StageReceipt, StageTask

__all__ = ["AttemptRecord", "lane_ranges", "stage_tasks"]


@dataclass(slots=True, kw_only=True)
class AttemptRecord:
    """One attempt. `placed[lane]` is the worker of a lane; `late` is W(N-1), `closing` W(N) once level 0 is in."""

    attempt: Attempt
    slice: Slice
    placed: tuple[str, ...]
    late: Watermarks
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

    def figures(self, ended_us: int, previous_us: int | None = None) -> BatchFigures:
        """What the progress event says of the batch."""
        rows_in: Counter[str] = Counter()
        bad: Counter[str] = Counter()
        late: Counter[str] = Counter()
        held: Counter[str] = Counter()
        rows_out: Counter[str] = Counter()
        for receipt in self.receipts:
            for meta in receipt.partitions:
                rows_in[meta.source] += meta.rows
                bad[meta.source] += meta.bad
            late.update(dict(receipt.late_rows))
            held.update({change.operator: change.rows_held for change in receipt.changes})
            rows_out.update({part.sink: part.rows for part in receipt.outputs})
        marks = [self.began_us, *self.marks_us.values()]
        steps = [(name, at - before) for (name, at), before in zip(self.marks_us.items(), marks, strict=False)]
        return BatchFigures(
            began_us=self.began_us,
            ended_us=ended_us,
            steps=steps,
            rows_in=rows_in,
            bad=bad,
            late=late,
            rows_held=held,
            rows_out=rows_out,
            previous_us=previous_us,
        )


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
            )
        )
    return tasks
