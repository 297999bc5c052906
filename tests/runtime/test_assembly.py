from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queries import clocked, frames, started, to_memory, totals

from microstream.checkpoint.invariants import invariants
from microstream.checkpoint.manifest import HASH_SPACE, Kind, Manifest, Segment, Status
from microstream.clock import BEGINNING_US, END_US
from microstream.connectors.memory.source import PARTITION
from microstream.connectors.protocol import Range
from microstream.errors import InternalError
from microstream.runtime.assembly import (
    assemble,
    closed_before,
    ledger_after,
    outbox_of,
    receipt_problems,
    unsealed,
    watermarks_after,
)
from microstream.runtime.planning import Slice
from microstream.runtime.task import (
    Attempt,
    Execution,
    OutboxPart,
    PartitionMeta,
    RunPart,
    Sealed,
    StageReceipt,
    StageTask,
    StateChange,
)

LANES = 2
ROWS = frames([], [], name="rows", delay_us=10)
PLAN = to_memory(out=totals(ROWS, id="totals"), other=ROWS)
NODES = {"rows": ROWS}
READ = Range(source="rows", partition=PARTITION, start=0, end=1)
META = PartitionMeta(
    source="rows",
    partition=PARTITION,
    start=0,
    end=1,
    rows=5,
    bad=0,
    tombstones=0,
    bytes=100,
    max_event_time_us=70,
)
ATTEMPT = Attempt(job="job", epoch=1, batch=0, number=0, commit_id="commit-1", base="commit-0", batch_time_us=5_000)
TASK = StageTask(
    attempt=ATTEMPT,
    level=0,
    lane=0,
    lanes=2,
    ranges=(READ,),
    upstream=(),
    late=(("totals", BEGINNING_US),),
    closed_before=(("totals", BEGINNING_US),),
    closing=(),
    base_at=None,
    seal_after=3,
)


def execution(level: int, lane: int) -> Execution:
    return Execution(level=level, lane=lane, address="a", id=f"{level}.{lane}")


def answer(task: StageTask, **changes: Any) -> StageReceipt:
    receipt = StageReceipt(
        attempt=task.attempt,
        execution=execution(task.level, task.lane),
        ranges=task.ranges,
        closing=task.closing,
        consumed=task.upstream,
        partitions=(META,) * len(task.ranges),
        late_rows=(),
        changes=(),
        outputs=(),
        sealed=(),
    )
    return replace(receipt, **changes)


def stored(level: int, lane: int, name: str, rows: int = 3) -> Sealed:
    place = Segment(object="data/x", offset=100 * level + lane, length=10, crc32=0, rows=rows)
    return Sealed(execution=f"{level}.{lane}", name=name, segment=place)


def slice_of(head: Manifest, *ranges: Range, finished: bool = False) -> Slice:
    ended = frozenset({("rows", PARTITION)}) if finished else frozenset()
    return Slice(
        batch=head.batch + 1,
        batch_time_us=head.batch_time_us + 1,
        ranges=ranges,
        sources=head.sources,
        idle=frozenset(),
        finished=ended,
    )


def test_an_answer_that_echoes_its_task_is_accepted() -> None:
    upper = replace(TASK, level=1, lane=1, ranges=(), upstream=(execution(0, 0),), closing=(("totals", 60),))

    assert receipt_problems(TASK, answer(TASK)) == ()
    assert receipt_problems(upper, answer(upper)) == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        *(
            ({"attempt": replace(ATTEMPT, **{name: value})}, "it is for Attempt")
            for name, value in {
                "job": "other",
                "epoch": 2,
                "batch": 1,
                "number": 1,
                "commit_id": "commit-x",
                "base": "commit-y",
                "batch_time_us": 5_001,
            }.items()
        ),
        ({"execution": execution(1, 0)}, "level 1, lane 0"),
        ({"execution": execution(0, 1)}, "level 0, lane 1"),
        ({"ranges": (replace(READ, end=2),)}, "it read"),
        ({"closing": (("totals", 1),)}, "its watermarks are"),
        ({"consumed": (execution(0, 0),)}, "other executions"),
        ({"partitions": ()}, "it describes"),
        ({"partitions": (replace(META, end=2),)}, "it describes"),
        ({"partitions": (replace(META, start=1),)}, "it describes"),
        ({"partitions": (replace(META, partition="frames-1"),)}, "it describes"),
        ({"partitions": (replace(META, source="other"),)}, "it describes"),
    ],
)
def test_an_answer_that_differs_in_one_thing_is_refused(changes: dict[str, Any], said: str) -> None:
    problems = receipt_problems(TASK, answer(TASK, **changes))

    assert len(problems) == 1
    assert said in problems[0]


def test_the_ledger_and_the_watermarks_follow_from_slice_and_metas() -> None:
    head = started(PLAN)
    slice_ = slice_of(head, READ)

    [after] = ledger_after(slice_, NODES, [META])
    watermarks = watermarks_after((("totals", BEGINNING_US),), PLAN.operators, [after])

    assert (after.partitions[0].next_offset, after.partitions[0].status) == (1, Status.ACTIVE)
    assert after.watermark_us == 60
    assert watermarks == (("totals", 60),)
    assert watermarks_after((("totals", 65),), PLAN.operators, [after]) == (("totals", 65),)


def test_by_processing_time_the_ledger_is_at_the_time_of_the_batch() -> None:
    node = clocked([], [])
    plan = to_memory(out=totals(node, id="totals"))
    head = replace(started(plan), batch_time_us=900)
    read = replace(META, max_event_time_us=901)

    [with_rows] = ledger_after(slice_of(head, READ), {"rows": node}, [read])
    [without] = ledger_after(slice_of(head), {"rows": node}, [])
    [at_the_end] = ledger_after(slice_of(head, READ, finished=True), {"rows": node}, [read])

    assert (with_rows.watermark_us, without.watermark_us, at_the_end.watermark_us) == (901, 901, END_US)
    assert watermarks_after((("totals", 900),), plan.operators, [without]) == (("totals", 901),)


def test_parts_that_were_announced_and_not_stored_are_named() -> None:
    added = RunPart(level=0, rows=3, min_end_us=10, max_end_us=20)
    change = StateChange(operator="totals", dropped=(), added=added, rows_held=3)
    unchanged = replace(change, added=None)
    outputs = (OutboxPart(sink="out", rows=3, chunks=(3,)), OutboxPart(sink="other", rows=0, chunks=()))
    task = replace(TASK, level=1, lane=1, ranges=())

    nothing_stored = unsealed([answer(task, changes=(change,), outputs=outputs)])
    elsewhere = unsealed(
        [
            answer(TASK, sealed=(stored(1, 1, "run:totals"), stored(1, 1, "sink:out"))),
            answer(task, changes=(change,), outputs=outputs),
            answer(replace(task, lane=0), changes=(unchanged,)),
        ]
    )

    assert nothing_stored == ("run:totals of level 1, lane 1", "sink:out of level 1, lane 1")
    assert elsewhere == ()


def test_a_part_of_another_execution_does_not_count() -> None:
    again = replace(execution(0, 0), id="second run")
    out = OutboxPart(sink="other", rows=3, chunks=(3,))

    missing = unsealed([answer(TASK, execution=again, outputs=(out,), sealed=(stored(0, 0, "sink:other"),))])

    assert missing == ("sink:other of level 0, lane 0",)


@settings(deadline=None)
@given(
    pieces=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.lists(st.integers(1, 9), min_size=1, max_size=3)),
        unique_by=lambda piece: piece[:2],
        max_size=6,
    )
)
def test_chunk_bounds_count_rows_over_all_segments_of_a_lane(pieces: list[tuple[int, int, list[int]]]) -> None:
    receipts = []
    for level, lane, sizes in pieces:
        bounds = tuple(sum(sizes[: n + 1]) for n in range(len(sizes)))
        receipts.append(
            answer(
                replace(TASK, level=level, lane=lane),
                outputs=(OutboxPart(sink="out", rows=bounds[-1], chunks=bounds),),
                sealed=(stored(level, lane, "sink:out", bounds[-1]),),
            )
        )

    outbox = dict(outbox_of(slice_of(started(PLAN), READ), receipts))

    if not pieces:
        assert outbox == {}
        return
    lanes = {lane.lane: lane for lane in outbox["out"].lanes}
    assert list(lanes) == sorted({lane for _, lane, _ in pieces})
    for number, lane in lanes.items():
        mine = sorted((level, sizes) for level, at, sizes in pieces if at == number)
        steps = [size for _, sizes in mine for size in sizes]
        assert list(lane.chunks) == [sum(steps[: n + 1]) for n in range(len(steps))]
        assert [s.offset // 100 for s in lane.segments] == [level for level, _ in mine]
        assert lane.chunks[-1] == sum(s.rows for s in lane.segments)


def test_sinks_without_rows_have_no_outbox() -> None:
    nothing = answer(TASK, outputs=(OutboxPart(sink="out", rows=0, chunks=()),))

    assert outbox_of(slice_of(started(PLAN), READ), [nothing]) == ()


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[bool, int, list[bool], list[bool], int]]:
    """Batches: whether a frame is read, its newest time, lanes that add a run, lanes that emit, runs dropped."""
    lanes = st.lists(st.booleans(), min_size=LANES, max_size=LANES)
    batch = st.tuples(st.booleans(), st.integers(0, 100), lanes, lanes, st.integers(0, 2))
    return draw(st.lists(batch, min_size=1, max_size=6))


@settings(deadline=None)
@given(history=histories(), ends=st.booleans())
def test_manifests_of_batches_keep_the_invariants(
    history: list[tuple[bool, int, list[bool], list[bool], int]], ends: bool
) -> None:
    head = started(PLAN, lanes=LANES)
    assert invariants(None, head) == ()

    for number, (reads, newest, adds, emits, drops) in enumerate(history):
        following = next_manifest(head, reads, newest, adds, emits, drops, finished=ends and number == len(history) - 1)
        assert invariants(head, following) == ()
        check_runs(head, following, adds, drops)
        head = following

    assert head.finished == ends
    assert head.operators[0].watermark_us == (END_US if ends else head.sources[0].watermark_us)


def next_manifest(
    head: Manifest, reads: bool, newest: int, adds: list[bool], emits: list[bool], drops: int, *, finished: bool
) -> Manifest:
    """What the driver would do after one batch."""
    at = head.sources[0].partitions[0].next_offset
    read = replace(READ, start=at, end=at + reads)
    slice_ = slice_of(head, *[read] * reads, finished=finished)
    metas = [replace(META, start=at, end=at + 1, max_event_time_us=newest)] * reads
    sources = ledger_after(slice_, NODES, metas)
    before = tuple((o.id, o.watermark_us) for o in head.operators)
    receipts = [lane_receipt(head, lane, adds[lane], emits[lane], drops) for lane in range(LANES)]
    return assemble(
        head,
        commit_id=f"commit-{head.seq + 1}",
        slice_=slice_,
        sources=sources,
        watermarks=watermarks_after(before, PLAN.operators, sources),
        operators=PLAN.operators,
        receipts=receipts,
        sinks=head.sinks,
        now_us=head.written_us + 1,
    )


def lane_receipt(head: Manifest, lane: int, adds: bool, emits: bool, drops: int) -> StageReceipt:
    lo = head.operators[0].lane_starts[lane]
    dropped = tuple((r.batch, r.lo) for r in head.operators[0].runs if r.lo == lo)[:drops]
    added = RunPart(level=0, rows=3, min_end_us=10, max_end_us=20) if adds else None
    return answer(
        replace(TASK, level=1, lane=lane, ranges=()),
        changes=(StateChange(operator="totals", dropped=dropped, added=added, rows_held=3),),
        outputs=(OutboxPart(sink="out", rows=3, chunks=(2, 3) if emits else ()),),
        sealed=(stored(1, lane, "run:totals"), stored(1, lane, "sink:out")),
    )


def check_runs(before: Manifest, after: Manifest, adds: list[bool], drops: int) -> None:
    """Dropped runs are gone, all others stay, and each lane that added one owns it."""
    operator = before.operators[0]
    starts, ends = operator.lane_starts, (*operator.lane_starts[1:], HASH_SPACE)
    gone = {(r.batch, r.lo) for lo in starts for r in [run for run in operator.runs if run.lo == lo][:drops]}
    kept = [r for r in operator.runs if (r.batch, r.lo) not in gone]
    fresh = [r for r in after.operators[0].runs if r.batch == after.batch]
    assert [r for r in after.operators[0].runs if r.batch != after.batch] == kept
    assert [(r.lo, r.hi) for r in fresh] == [(starts[n], ends[n]) for n in range(LANES) if adds[n]]
    assert [r.segment.offset for r in fresh] == [100 + n for n in range(LANES) if adds[n]]


def test_a_batch_follows_its_head_and_keeps_what_the_head_says_of_gc() -> None:
    head = replace(started(PLAN, lanes=LANES), floor=0, kept=())

    after = next_manifest(head, True, 50, [True, False], [False, True], 0, finished=False)

    assert (after.seq, after.parent, after.kind, after.batch) == (1, "commit-0", Kind.BATCH, 0)
    assert (after.job, after.epoch, after.owner, after.plan) == (head.job, head.epoch, head.owner, head.plan)
    assert after.operators[0].closed_before_us == after.operators[0].watermark_us == 40
    assert [p.batch for p in after.sinks[0].pending] == [0]
    assert after.sinks[1].published_through == 0


def test_a_batch_out_of_turn_is_never_assembled() -> None:
    head = started(PLAN)

    with pytest.raises(InternalError, match="cannot follow batch -1"):
        assemble(
            head,
            commit_id="x",
            slice_=replace(slice_of(head), batch=1),
            sources=head.sources,
            watermarks=(("totals", BEGINNING_US),),
            operators=PLAN.operators,
            receipts=[],
            sinks=head.sinks,
            now_us=0,
        )


def test_lanes_that_are_published_together_are_lane_0_in_a_stable_order() -> None:
    receipts = [
        answer(
            replace(TASK, level=level, lane=lane),
            outputs=(OutboxPart(sink="out", rows=2, chunks=(2,), together=True),),
            sealed=(stored(level, lane, "sink:out", 2),),
        )
        for level, lane in ((1, 1), (0, 0), (1, 0))
    ]

    [(_, batch)] = outbox_of(slice_of(started(PLAN), READ), receipts)

    [only] = batch.lanes
    in_order = [stored(level, lane, "sink:out", 2).segment for level, lane in ((0, 0), (1, 0), (1, 1))]
    assert (only.lane, only.chunks, list(only.segments)) == (0, (2, 4, 6), in_order)


@given(
    reached=st.lists(st.integers(-100, 100), min_size=1, max_size=5).map(sorted),
    lateness_us=st.integers(1, 50),
    floor_us=st.integers(-100, 100),
    committed=st.integers(0, 4),
)
def test_before_what_windows_take_no_more_rows_does_not_depend_on_which_batch_is_committed(
    reached: list[int], lateness_us: int, floor_us: int, committed: int
) -> None:
    late = to_memory(out=replace(totals(ROWS, id="totals"), lateness_us=lateness_us))

    def after(head: Manifest, watermark_us: int) -> int:
        [(_, closed_us)] = closed_before(head, (("totals", watermark_us),), late.operators)
        return closed_us

    head = with_closed(started(late), floor_us)
    for watermark_us in reached[:committed]:
        head = with_closed(head, after(head, watermark_us))

    assert after(head, reached[-1]) == max(floor_us, reached[-1] - lateness_us)
    assert after(head, END_US) == END_US
    assert closed_before(with_closed(started(PLAN), -7), (("totals", 5),), PLAN.operators) == (("totals", 5),)


def with_closed(head: Manifest, closed_before_us: int) -> Manifest:
    return replace(head, operators=(replace(head.operators[0], closed_before_us=closed_before_us),))
