from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from queries import line

from microstream.checkpoint.manifest import SourceState, Status
from microstream.clock import BEGINNING_US, END_US
from microstream.runtime.task import PartitionMeta
from microstream.runtime.watermark import advance_source, is_finished, is_wholly_idle, operator_watermark

DELAY_US = 10
NAMES = ("p-0", "p-1", "p-2")
HOLDING = (Status.ACTIVE, Status.NEVER_SEEN)


def source(*statuses: Status, watermark_us: int = BEGINNING_US, name: str = "s") -> SourceState:
    return SourceState(
        name=name,
        kind="memory",
        target="frames",
        topic_ids=(),
        watermark_us=watermark_us,
        partitions=tuple(
            line(f"p-{n}", status=s, max_event_time_us=BEGINNING_US if s is Status.NEVER_SEEN else 0)
            for n, s in enumerate(statuses)
        ),
    )


def meta(partition: str, max_event_time_us: int, *, start: int = 0, rows: int = 1) -> PartitionMeta:
    return PartitionMeta(
        source="s",
        partition=partition,
        start=start,
        end=start + 5,
        rows=rows,
        bad=0,
        tombstones=0,
        bytes=100,
        max_event_time_us=max_event_time_us,
    )


@st.composite
def batches(draw: st.DrawFn) -> list[tuple[list[PartitionMeta], set[str], set[str]]]:
    """Metas, idle and finished partitions of some batches; what is read is not idle, what is finished stays so."""
    result = []
    finished: set[str] = set()
    for _ in range(draw(st.integers(1, 8))):
        read = {name for name in NAMES if name not in finished and draw(st.booleans())}
        metas = [
            meta(name, BEGINNING_US, rows=0) if draw(st.booleans()) else meta(name, draw(st.integers(-100, 100)))
            for name in sorted(read)
        ]
        idle = {name for name in NAMES if name not in read | finished and draw(st.booleans())}
        finished = finished | {name for name in NAMES if name not in idle and draw(st.integers(0, 9)) == 0}
        result.append((metas, idle, set(finished)))
    return result


@settings(deadline=None)
@given(steps=batches())
def test_a_watermark_never_falls_and_follows_the_slowest_partition_that_may_send(
    steps: list[tuple[list[PartitionMeta], set[str], set[str]]],
) -> None:
    before = source(*[Status.NEVER_SEEN] * 3)
    latest = dict.fromkeys(NAMES, BEGINNING_US)

    for metas, idle, finished in steps:
        after = advance_source(before, metas, delay_us=DELAY_US, idle=idle, finished=finished)

        latest |= {m.partition: max(latest[m.partition], m.max_event_time_us) for m in metas}
        assert {p.partition: p.max_event_time_us for p in after.partitions} == latest
        assert after.watermark_us >= before.watermark_us
        holding = [p.partition for p in after.partitions if p.status in HOLDING]
        slowest = min((latest[p] - DELAY_US if latest[p] != BEGINNING_US else BEGINNING_US for p in holding), default=0)
        if holding:
            assert after.watermark_us == max(before.watermark_us, slowest)
        elif len(finished) == len(NAMES):
            assert after.watermark_us == END_US
        else:
            assert after.watermark_us == before.watermark_us
        before = after


@settings(deadline=None)
@given(steps=batches(), seen=st.integers(-100, 100))
def test_a_partition_that_was_never_seen_holds_the_watermark_at_the_beginning(
    steps: list[tuple[list[PartitionMeta], set[str], set[str]]], seen: int
) -> None:
    before = source(Status.ACTIVE, Status.NEVER_SEEN)

    for _ in steps:
        before = advance_source(before, [meta("p-0", seen)], delay_us=DELAY_US, idle=(), finished=())

    assert before.watermark_us == BEGINNING_US


def test_a_partition_is_active_from_its_first_row_and_idle_when_slicing_says_so() -> None:
    fresh = source(Status.NEVER_SEEN, Status.NEVER_SEEN)

    read = advance_source(fresh, [meta("p-0", 5)], delay_us=0, idle={"p-1"}, finished=())

    assert [p.status for p in read.partitions] == [Status.ACTIVE, Status.IDLE]
    assert [p.next_offset for p in read.partitions] == [5, 0]
    assert read.watermark_us == 5


def test_a_range_without_good_rows_moves_the_offset_only() -> None:
    fresh = source(Status.NEVER_SEEN)

    after = advance_source(fresh, [meta("p-0", BEGINNING_US, rows=0)], delay_us=0, idle=(), finished=())

    assert after.partitions == (replace(fresh.partitions[0], next_offset=5),)


def test_a_partition_that_wakes_below_the_watermark_does_not_pull_it_back() -> None:
    asleep = source(Status.ACTIVE, Status.IDLE, watermark_us=90)

    awake = advance_source(asleep, [meta("p-1", 3)], delay_us=DELAY_US, idle=(), finished=())

    assert awake.watermark_us == 90
    assert awake.partitions[1].status is Status.ACTIVE


def test_where_all_sleep_or_have_ended_the_watermark_stays() -> None:
    some = source(Status.FINISHED, Status.ACTIVE, watermark_us=7)

    after = advance_source(some, (), delay_us=0, idle={"p-1"}, finished={"p-0"})

    assert after.watermark_us == 7
    assert is_wholly_idle(after)


def test_where_all_have_ended_the_watermark_is_the_end() -> None:
    some = source(Status.FINISHED, Status.ACTIVE, watermark_us=7)

    after = advance_source(some, [meta("p-1", 50)], delay_us=0, idle=(), finished={"p-0", "p-1"})

    assert after.watermark_us == END_US
    assert is_finished([after])
    assert not is_wholly_idle(after)


def test_a_query_is_finished_when_every_partition_of_every_source_is() -> None:
    ended, running = source(Status.FINISHED), source(Status.FINISHED, Status.IDLE)

    assert is_finished([ended, ended])
    assert not is_finished([ended, running])


statuses = st.lists(st.sampled_from(Status), min_size=1, max_size=3)


@settings(deadline=None)
@given(
    inputs=st.lists(st.tuples(statuses, st.integers(-100, 100)), min_size=1, max_size=4),
    previous=st.one_of(st.just(BEGINNING_US), st.integers(-100, 100)),
)
def test_an_operator_follows_the_slowest_input_that_is_awake(
    inputs: list[tuple[list[Status], int]], previous: int
) -> None:
    sources = {
        f"s-{n}": source(*found, watermark_us=watermark, name=f"s-{n}") for n, (found, watermark) in enumerate(inputs)
    }

    after = operator_watermark(previous, sources, sources)

    awake = [s.watermark_us for s in sources.values() if not is_wholly_idle(s)]
    assert after >= previous
    assert after == (max(previous, min(awake)) if awake else previous)


def test_a_wholly_idle_input_does_not_hold_an_operator_nor_pull_it_back_when_it_wakes() -> None:
    clicks = source(Status.ACTIVE, watermark_us=500, name="clicks")
    asleep = source(Status.IDLE, watermark_us=20, name="purchases")
    awake = source(Status.ACTIVE, watermark_us=30, name="purchases")

    while_asleep = operator_watermark(20, ("clicks", "purchases"), {"clicks": clicks, "purchases": asleep})
    after_waking = operator_watermark(while_asleep, ("clicks", "purchases"), {"clicks": clicks, "purchases": awake})

    assert (while_asleep, after_waking) == (500, 500)


def test_an_input_that_ended_does_not_hold_an_operator() -> None:
    ended = source(Status.FINISHED, watermark_us=END_US, name="a")
    running = source(Status.ACTIVE, watermark_us=30, name="b")

    assert operator_watermark(20, ("a", "b"), {"a": ended, "b": running}) == 30


@settings(deadline=None)
@given(steps=batches(), times=st.lists(st.integers(1, 50), min_size=8, max_size=8), start=st.integers(-100, 100))
def test_by_processing_time_the_watermark_is_the_batch_time_until_the_end(
    steps: list[tuple[list[PartitionMeta], set[str], set[str]]], times: list[int], start: int
) -> None:
    # Partitions may sleep from a time when the source had another event time.
    before = source(Status.NEVER_SEEN, Status.ACTIVE, Status.IDLE, watermark_us=start)

    for (metas, _, finished), later_us in zip(steps, times, strict=False):
        start += later_us
        stamped = [meta(m.partition, start if m.rows else BEGINNING_US, rows=m.rows) for m in metas]
        before = advance_source(before, stamped, delay_us=0, idle=(), finished=finished, batch_time_us=start)

        assert before.watermark_us == (END_US if len(finished) == len(NAMES) else start)
        assert all(line.status is not Status.IDLE for line in before.partitions)
        assert not is_wholly_idle(before)


def test_by_processing_time_a_source_without_partitions_is_at_the_batch_time() -> None:
    nothing = source()

    after = advance_source(nothing, (), delay_us=0, idle=(), finished=(), batch_time_us=70)

    assert after.watermark_us == 70


def test_by_processing_time_a_clock_that_is_behind_does_not_pull_the_watermark_back() -> None:
    ahead = source(Status.ACTIVE, watermark_us=90)

    after = advance_source(ahead, (), delay_us=0, idle=(), finished=(), batch_time_us=70)

    assert after.watermark_us == 90
