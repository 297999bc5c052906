from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queries import clocked, frames, line, started, to_memory, totals

from microstream.checkpoint.manifest import HASH_SPACE, OperatorState, Run, Segment, SourceState, Status
from microstream.clock import BEGINNING_US
from microstream.connectors.protocol import Bounds, Range
from microstream.errors import ConnectorError, OffsetExpiredError
from microstream.plan.nodes import Source
from microstream.runtime.planning import (
    AVERAGE_BYTES,
    Slice,
    check_offsets,
    closes_something,
    cut_ends,
    discover,
    finished_partitions,
    idle_partitions,
    is_last,
    skip_expired,
    views,
)

ROWS = frames([], [], name="s")
NODES: dict[str, Source] = {"s": ROWS}
CLOCKED: dict[str, Source] = {"s": clocked(name="s")}


def source(*lines: object, topic_id: str = "id-1", watermark_us: int = BEGINNING_US) -> SourceState:
    return SourceState(
        name="s",
        kind="kafka",
        target="bids",
        topic_ids=(("bids", topic_id),),
        watermark_us=watermark_us,
        partitions=tuple(lines),  # type: ignore[arg-type]
    )


def test_new_partitions_are_read_from_their_low_offset() -> None:
    known = source(line("bids-0", 40, 7, Status.ACTIVE))

    found = discover(
        known, {"bids-2": Bounds(low=5, end=9), "bids-0": Bounds(low=0, end=50), "bids-1": Bounds(low=3, end=3)}
    )

    assert found.partitions == (*known.partitions, line("bids-1", 3), line("bids-2", 5))


@pytest.mark.parametrize(("reached", "status"), [(7, Status.ACTIVE), (BEGINNING_US, Status.NEVER_SEEN)])
def test_an_idle_partition_that_has_something_to_read_is_awake_before_it_is_read(reached: int, status: Status) -> None:
    asleep = source(line("bids-0", 40, reached, Status.IDLE), line("bids-1", 3, 9, Status.IDLE))

    found = discover(asleep, {"bids-0": Bounds(low=0, end=41), "bids-1": Bounds(low=0, end=3)})

    assert [p.status for p in found.partitions] == [status, Status.IDLE]


def test_an_expired_offset_names_what_is_lost_and_the_way_out() -> None:
    behind = source(line("bids-0", 4, 7, Status.ACTIVE))

    with pytest.raises(OffsetExpiredError, match="on_data_loss") as caught:
        check_offsets(behind, {"bids-0": Bounds(low=10, end=50)}, {"bids": "id-1"})

    error = caught.value
    assert (error.source, error.partition, error.wanted, error.earliest) == ("s", "bids-0", 4, 10)


@pytest.mark.parametrize(
    ("bounds", "identity", "fields"),
    [
        ({"bids-0": Bounds(low=0, end=50)}, {"bids": "id-2"}, {"source": "s", "topic": "bids"}),
        ({"bids-0": Bounds(low=0, end=3)}, {"bids": "id-1"}, {"source": "s", "partition": "bids-0"}),
        ({}, {"bids": "id-1"}, {"source": "s", "partition": "bids-0"}),
    ],
    ids=["created again", "shrunken", "partition gone"],
)
def test_a_topic_that_is_not_the_same_any_more_is_refused(
    bounds: dict[str, Bounds], identity: dict[str, str], fields: dict[str, str]
) -> None:
    known = source(line("bids-0", 4, 7, Status.ACTIVE))

    with pytest.raises(ConnectorError, match="new checkpoint") as caught:
        check_offsets(known, bounds, identity)

    assert caught.value.fields == fields


@pytest.mark.parametrize(("known", "now"), [("", "id-2"), ("id-1", "")])
def test_an_unknown_topic_id_refuses_nothing(known: str, now: str) -> None:
    here = source(line("bids-0", 4), topic_id=known)

    check_offsets(here, {"bids-0": Bounds(low=4, end=4)}, {"bids": now})


def test_expired_records_are_skipped_on_request() -> None:
    behind = source(line("bids-0", 4), line("bids-1", 20), line("bids-2", 3))

    moved = skip_expired(behind, {"bids-0": Bounds(low=10, end=50), "bids-1": Bounds(low=10, end=50)})

    assert [p.next_offset for p in moved.partitions] == [10, 20, 3]


def test_available_now_reads_what_was_there_at_its_start() -> None:
    now = {"a": Bounds(low=0, end=9), "b": Bounds(low=2, end=5), "new": Bounds(low=3, end=8)}

    cut = cut_ends(now, {"a": 6, "b": 5})

    assert {name: (at.low, at.end) for name, at in cut.items()} == {"a": (0, 6), "b": (2, 5), "new": (3, 3)}
    assert cut_ends(now, None) is now


def test_a_partition_that_was_cut_short_has_not_ended() -> None:
    now = {"a": Bounds(low=0, end=9, finished=True), "b": Bounds(low=0, end=5, finished=True)}

    cut = cut_ends(now, {"a": 6, "b": 5})

    assert {name: at.finished for name, at in cut.items()} == {"a": False, "b": True}


def test_slicing_sees_every_partition_with_the_bytes_measured_so_far() -> None:
    known = source(line("bids-0", 4, 7, Status.ACTIVE), line("bids-1", 0))
    bounds = {"s": {"bids-0": Bounds(low=0, end=9), "bids-1": Bounds(low=0, end=2, max_step=1)}}

    first, second = views([known], NODES, bounds, {"s": 33.0})
    unmeasured = views([known], NODES, bounds, {})

    assert (first.position, first.end, first.max_event_time_us, first.bytes_per_record) == (4, 9, 7, 33.0)
    assert (first.lag, second.lag) == (5, 1)
    assert {v.bytes_per_record for v in unmeasured} == {AVERAGE_BYTES}
    assert {v.takes_batch_time for v in unmeasured} == {False}
    assert {v.takes_batch_time for v in views([known], CLOCKED, bounds, {})} == {True}


@settings(deadline=None)
@given(
    quiet=st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 100)),
    now=st.integers(100, 300),
    timeout=st.one_of(st.none(), st.integers(0, 200)),
)
def test_idle_is_who_is_caught_up_and_has_been_quiet_long_enough(
    quiet: dict[str, int], now: int, timeout: int | None
) -> None:
    known = source(*(line(name) for name in ("a", "b", "c")))
    nodes = {"s": replace(ROWS, idle_timeout_us=timeout)}

    idle = idle_partitions([known], nodes, {("s", p): since for p, since in quiet.items()}, now)

    expected = {p for p, since in quiet.items() if timeout is not None and now - since >= timeout}
    assert idle == {("s", p) for p in expected}
    assert not idle_partitions([known], CLOCKED, {("s", p): since for p, since in quiet.items()}, now)


def test_a_partition_is_finished_when_nothing_is_left_after_this_slice() -> None:
    known = source(line("a", 4), line("b", 4), line("c", 4), line("d", 4))
    bounds = {
        "s": {
            "a": Bounds(low=0, end=4, finished=True),
            "b": Bounds(low=0, end=9, finished=True),
            "c": Bounds(low=0, end=9, finished=True),
            "d": Bounds(low=0, end=4),
        }
    }
    ranges = [
        Range(source="s", partition="b", start=4, end=9),
        Range(source="s", partition="c", start=4, end=8),
        Range(source="other", partition="d", start=0, end=9),
    ]

    assert finished_partitions([known], bounds, ranges) == {("s", "a"), ("s", "b")}


def test_the_last_slice_is_the_one_that_ends_all_input() -> None:
    ended, running = line("a", 4, 0, Status.FINISHED), line("b", 4, 0, Status.ACTIVE)
    both = frozenset({("s", "a"), ("s", "b")})

    assert is_last([source(ended, running)], both)
    assert not is_last([source(ended, running)], frozenset({("s", "a")}))
    assert not is_last([source(ended)], frozenset({("s", "a")}))


PLAN = to_memory(out=totals(ROWS))


BY_CLOCK = to_memory(out=totals(CLOCKED["s"]))


def waiting(watermark_us: int, *ends: tuple[int, int]) -> OperatorState:
    state = started(PLAN).operators[0]
    segment = Segment(object="data/x", offset=0, length=1, crc32=0, rows=1)
    runs = tuple(
        Run(segment=segment, batch=n, level=0, lo=0, hi=HASH_SPACE, min_end_us=least, max_end_us=most)
        for n, (least, most) in enumerate(ends)
    )
    return replace(state, watermark_us=watermark_us, closed_before_us=watermark_us, runs=runs)


def empty_slice(
    *lines: object, idle: tuple[str, ...] = (), finished: tuple[str, ...] = (), batch_time_us: int = 0
) -> Slice:
    return Slice(
        batch=3,
        batch_time_us=batch_time_us,
        ranges=(),
        sources=(source(*lines),),
        idle=frozenset(("s", p) for p in idle),
        finished=frozenset(("s", p) for p in finished),
    )


def test_a_partition_that_falls_asleep_closes_the_windows_that_waited_for_it() -> None:
    slow, fast = line("slow", 9, 5, Status.ACTIVE), line("fast", 9, 50, Status.ACTIVE)
    asleep = empty_slice(slow, fast, idle=("slow",))

    assert closes_something(asleep, NODES, PLAN.operators, [waiting(5, (40, 60))])
    assert not closes_something(asleep, NODES, PLAN.operators, [waiting(5, (60, 60))])
    assert not closes_something(asleep, NODES, PLAN.operators, [waiting(50, (40, 60))])
    assert not closes_something(empty_slice(slow, fast), NODES, PLAN.operators, [waiting(5, (40, 60))])


def test_a_window_that_closed_and_takes_more_rows_makes_no_batch_due() -> None:
    asleep = empty_slice(line("slow", 9, 5, Status.ACTIVE), line("fast", 9, 50, Status.ACTIVE), idle=("slow",))
    closed = replace(waiting(45, (40, 40)), closed_before_us=5)

    assert not closes_something(asleep, NODES, PLAN.operators, [closed])


def test_the_end_of_all_input_is_a_batch_of_its_own_even_if_nothing_waits() -> None:
    end = empty_slice(line("a", 9, 5, Status.ACTIVE), finished=("a",))
    after_the_end = empty_slice(line("a", 9, 5, Status.FINISHED), finished=("a",))

    assert closes_something(end, NODES, PLAN.operators, [waiting(5)])
    assert not closes_something(after_the_end, NODES, PLAN.operators, [waiting(2**63 - 1)])


@settings(deadline=None)
@given(
    ends=st.sets(st.integers(1, 9).map(lambda at: 10 * at), min_size=1, max_size=3),
    closed=st.integers(0, 100),
    now=st.integers(0, 120),
)
def test_the_clock_makes_a_batch_due_once_for_each_window_that_it_passes(ends: set[int], closed: int, now: int) -> None:
    least, most = min(ends), max(ends)
    state = waiting(closed, (least, most))
    slice_ = empty_slice(line("a", 9, 5, Status.ACTIVE), batch_time_us=now)

    due = closes_something(slice_, CLOCKED, BY_CLOCK.operators, [state])

    # A run says between which ends its windows lie, not which of them it has.
    assert due == any(closed < end <= now for end in range(least, most + 1, 10))


def test_the_clock_makes_no_batch_due_where_nothing_waits() -> None:
    much_later = empty_slice(line("a", 9, 5, Status.ACTIVE), batch_time_us=2**60)

    assert not closes_something(much_later, CLOCKED, BY_CLOCK.operators, [waiting(5)])
    assert not closes_something(much_later, NODES, PLAN.operators, [waiting(5, (40, 60))])
