from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from queries import frames, line, to_memory, totals

from microstream.checkpoint.counting import Traffic
from microstream.checkpoint.manifest import SourceState
from microstream.clock import BEGINNING_US, END_US
from microstream.connectors.protocol import Range
from microstream.observe.progress import OperatorFigures
from microstream.runtime.flight import AttemptRecord, stage_tasks
from microstream.runtime.planning import Slice
from microstream.runtime.task import (
    Attempt,
    Execution,
    OutboxPart,
    PartitionMeta,
    StageReceipt,
    StageTask,
    StateChange,
)

STAGES = to_memory(out=totals(totals(frames([]), id="inner"), id="outer", aggregates=()))


LATE = (("inner", 3),)


def record(ranges: tuple[Range, ...], placed: tuple[str, ...], partitions: int) -> AttemptRecord:
    lines = tuple(line(f"p-{n}") for n in range(partitions))
    state = SourceState(
        name="rows", kind="kafka", target="t", topic_ids=(), watermark_us=BEGINNING_US, partitions=lines
    )
    attempt = Attempt(job="job", epoch=1, batch=4, number=9, commit_id="c", base="b", batch_time_us=50)
    slice_ = Slice(batch=4, batch_time_us=50, ranges=ranges, sources=(state,), idle=frozenset(), finished=frozenset())
    return AttemptRecord(attempt=attempt, slice=slice_, placed=placed, late=LATE, closed_before=LATE, began_us=1_000)


def receipt(task: StageTask, **changes: Any) -> StageReceipt:
    answer = StageReceipt(
        attempt=task.attempt,
        execution=Execution(level=task.level, lane=task.lane, address="a", id=f"{task.level}.{task.lane}"),
        ranges=task.ranges,
        closing=task.closing,
        consumed=task.upstream,
        partitions=(),
        late_rows=(),
        changes=(),
        outputs=(),
        sealed=(),
    )
    return replace(answer, **changes)


@settings(deadline=None)
@given(
    read=st.sets(st.integers(0, 6)),
    placed=st.lists(st.sampled_from("abc"), min_size=1, max_size=5),
)
def test_every_range_is_read_once_and_each_worker_knows_how_many_tasks_it_runs(
    read: set[int], placed: list[str]
) -> None:
    ranges = tuple(Range(source="rows", partition=f"p-{n}", start=0, end=3) for n in sorted(read))
    flight = record(ranges, tuple(placed), partitions=7)
    tasks: list[StageTask] = []

    for level in range(3):
        batch = stage_tasks(flight, STAGES, level, (7, "b"))
        flight.receipts += [receipt(task) for task in batch]
        tasks += batch

    assert sorted(r.partition for t in tasks for r in t.ranges) == [f"p-{n}" for n in sorted(read)]
    assert all(int(r.partition[2:]) % len(placed) == t.lane for t in tasks for r in t.ranges)
    for task in tasks:
        assert task.seal_after == sum(placed[t.lane] == placed[task.lane] for t in tasks)
        below = {(t.level, t.lane) for t in tasks if t.level < task.level}
        assert {(e.level, e.lane) for e in task.upstream} == below
    assert [t.lane for t in tasks if t.level > 0] == [*range(len(placed)), *range(len(placed))]
    assert any(t.level == 0 for t in tasks)


def test_closing_watermarks_are_not_told_before_they_are_known() -> None:
    flight = record((), ("a", "b"), partitions=1)
    flight.closing = (("inner", 8),)

    [source] = stage_tasks(flight, STAGES, 0, None)
    state, _ = stage_tasks(flight, STAGES, 1, None)

    assert (source.late, source.closing) == ((("inner", 3),), ())
    assert (state.late, state.closing) == ((("inner", 3),), (("inner", 8),))


def test_the_figures_of_a_batch_are_sums_over_its_lanes() -> None:
    flight = record((), ("a", "b"), partitions=1)
    [source] = stage_tasks(flight, STAGES, 0, None)
    meta = PartitionMeta(
        source="rows",
        partition="p-0",
        start=0,
        end=9,
        rows=5,
        bad=2,
        tombstones=0,
        bytes=9,
        max_event_time_us=70,
        min_event_time_us=60,
    )
    nothing = replace(meta, rows=0, bad=0, bytes=0, max_event_time_us=BEGINNING_US, min_event_time_us=END_US)
    held = StateChange(
        operator="inner", dropped=(), added=None, rows_held=4, rows_updated=3, rows_removed=2, memory_bytes=100
    )
    out = OutboxPart(sink="out", rows=3, chunks=(3,))
    asked = Traffic(requests=(("put", 1),), bytes_written=10)
    flight.receipts = [
        receipt(source, partitions=(meta, replace(meta, min_event_time_us=50), nothing), late_rows=(("inner", 1),)),
        receipt(source, changes=(held,), outputs=(out,), late_rows=(("inner", 6),), traffic=asked),
        receipt(source, changes=(held,), outputs=(out,), traffic=asked),
    ]
    flight.mark("level-0", 1_300)
    flight.mark("committed", 1_700)

    figures = flight.figures(2_000, delays_us={"rows": 7}, traffic=Traffic(requests=(("create", 1),)))

    read = figures.sources["rows"]
    assert (read.rows, read.bad, read.bytes, read.delay_us, read.start) == (10, 4, 18, 7, {"p-0": 0})
    assert figures.operators["inner"] == OperatorFigures(late=7, held=8, updated=6, removed=4, memory_bytes=200)
    assert (figures.rows_out["out"], figures.event_times_us) == (6, (50, 70))
    assert figures.traffic == Traffic(requests=(("create", 1), ("put", 2)), bytes_written=20)
    assert list(figures.steps) == [("level-0", 300), ("committed", 400)]
    assert (figures.began_us, figures.ended_us) == (1_000, 2_000)


def test_a_batch_that_read_nothing_has_no_event_times() -> None:
    flight = record((), ("a",), partitions=1)

    assert flight.figures(2_000).event_times_us is None
