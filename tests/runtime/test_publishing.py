from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.checkpoint.manifest import OutboxBatch, OutboxLane, Segment, SinkState
from microstream.runtime.publishing import (
    HELD_BYTES,
    HELD_SEGMENTS,
    Publishing,
    after_batch,
    backlog,
    confirm,
    enqueue,
    is_roll_due,
    roll_all,
    start_due,
)

SINKS = ("first", "second")


def sink(name: str, *pending: OutboxBatch, published_through: int = -1, lanes: int = 0) -> SinkState:
    return SinkState(
        name=name,
        kind="kafka",
        target=name,
        format="json",
        lanes=lanes,
        published_through=published_through,
        pending=pending,
    )


def rows(batch: int, *lanes: int, length: int = 100) -> OutboxBatch:
    segment = Segment(object="data/x", offset=0, length=length, crc32=0, rows=3)
    return OutboxBatch(
        batch=batch,
        time_us=batch,
        lanes=tuple(OutboxLane(lane=lane, segments=(segment,), chunks=(3,)) for lane in lanes),
    )


@settings(deadline=None)
@given(data=st.data(), batches=st.integers(0, 6))
def test_each_sink_publishes_its_batches_in_order_and_one_after_all_lanes_of_the_other(
    data: st.DataObject, batches: int
) -> None:
    state = Publishing(sinks=tuple(map(sink, SINKS)))
    left = {name: {b: data.draw(st.sets(st.integers(0, 3))) for b in range(batches)} for name in SINKS}
    begun: dict[str, list[int]] = {name: [] for name in SINKS}
    open_lanes: dict[str, set[int]] = {name: set() for name in SINKS}
    durable = 0

    while durable < batches or any(open_lanes.values()):
        out = [(name, lane) for name in SINKS for lane in sorted(open_lanes[name])]
        if durable < batches and (not out or data.draw(st.booleans())):
            outbox = tuple((n, rows(durable, *sorted(left[n][durable]))) for n in SINKS if left[n][durable])
            state = enqueue(state, durable, outbox)
            durable += 1
        else:
            name, lane = data.draw(st.sampled_from(out))
            state = confirm(state, name, begun[name][-1], lane)
            open_lanes[name].discard(lane)
        state, due = start_due(state)
        for name, batch in due:
            assert not open_lanes[name], "a lane of the batch before has not confirmed"
            open_lanes[name] = {lane.lane for lane in batch.lanes}
            assert open_lanes[name] == left[name][batch.batch]
            begun[name].append(batch.batch)

    for found in state.sinks:
        assert begun[found.name] == [b for b in range(batches) if left[found.name][b]]
        assert found.pending == ()
        assert found.lanes == max((1 + lane for lanes in left[found.name].values() for lane in lanes), default=0)


def test_a_sink_does_not_wait_for_another() -> None:
    state = Publishing(sinks=(sink("first", rows(0, 0), rows(1, 0)), sink("second", rows(0, 0), rows(1, 0))))
    state, _ = start_due(state)

    state = confirm(state, "second", 0, 0)
    _, due = start_due(state)

    assert [(name, batch.batch) for name, batch in due] == [("second", 1)]


def test_confirmations_that_are_stale_or_come_twice_change_nothing() -> None:
    state, _ = start_due(Publishing(sinks=(sink("first", rows(4, 0, 1), rows(5, 0)),)))
    half = confirm(state, "first", 4, 1)

    assert confirm(half, "first", 4, 1) == half
    assert confirm(half, "first", 3, 0) == half
    assert confirm(half, "first", 5, 0) == half
    assert confirm(half, "second", 4, 0) == half


def test_a_sink_is_confirmed_through_the_batch_that_all_its_lanes_confirmed() -> None:
    state, _ = start_due(Publishing(sinks=(sink("first", rows(4, 0, 1), rows(6, 0), published_through=3),)))

    half = confirm(state, "first", 4, 1)
    whole = confirm(half, "first", 4, 0)

    assert (half.sinks[0].published_through, [p.batch for p in half.sinks[0].pending]) == (3, [4, 6])
    assert (whole.sinks[0].published_through, [p.batch for p in whole.sinks[0].pending]) == (4, [6])


def test_a_batch_without_rows_is_confirmed_at_once_unless_an_older_one_waits() -> None:
    free, busy = sink("free", published_through=3), sink("busy", rows(4, 0), published_through=3)

    assert after_batch(free, 5, None).published_through == 5
    assert after_batch(busy, 5, None) == busy


def test_lanes_are_the_most_that_ever_published() -> None:
    two = after_batch(sink("first"), 0, rows(0, 1))

    assert two.lanes == 2
    assert after_batch(two, 1, rows(1, 0)).lanes == 2


def test_the_fullest_sink_decides_whether_there_is_room() -> None:
    many = sink("many", rows(0, 0, length=1), rows(1, 0, length=1))
    large = sink("large", rows(0, 0, 1, length=500))

    assert backlog(Publishing(sinks=(many, large))) == (2, 1_000)
    assert backlog(Publishing(sinks=())) == (0, 0)


@settings(deadline=None)
@given(data=st.data(), batches=st.integers(1, 12), every_us=st.integers(1, 8))
def test_rows_that_are_held_are_published_once_in_order_and_never_too_late(
    data: st.DataObject, batches: int, every_us: int
) -> None:
    state = Publishing(sinks=(replace(sink("first"), every_us=every_us),))
    given_, out, time_us = [], [], 0

    for number in range(batches):
        time_us += data.draw(st.integers(1, 5))
        filled = data.draw(st.booleans())
        outbox = replace(rows(number, 0, length=number + 1), time_us=time_us)
        given_ += [s for lane in outbox.lanes for s in lane.segments] if filled else []
        left = (("first", outbox),) if filled else ()
        state = enqueue(state, number, left, time_us=time_us, last=number == batches - 1)
        [now] = state.sinks
        assert not now.held or time_us - now.held[0].time_us < every_us
        assert not (now.held and now.published_through >= now.held[0].batch)
        state, due = start_due(state)
        for name, batch in due:
            [lane] = batch.lanes
            assert batch.batch <= number
            out += lane.segments
            assert lane.chunks == (sum(s.rows for s in lane.segments),)
            state = confirm(state, name, batch.batch, lane.lane)

    assert out == given_
    assert state.sinks[0].published_through == batches - 1


def test_a_roll_is_due_when_too_much_is_held() -> None:
    young = replace(sink("first"), every_us=1_000, held=(rows(0, 0, length=1),))
    large = replace(young, held=(rows(0, 0, length=HELD_BYTES),))
    many = replace(young, held=tuple(rows(batch, 0) for batch in range(HELD_SEGMENTS)))

    assert [is_roll_due(each, 0) for each in (young, large, many)] == [False, True, True]
    assert is_roll_due(young, 1_000)
    assert not is_roll_due(sink("nothing"), 1_000)


def test_rows_that_are_held_do_not_stop_admission() -> None:
    holding = replace(sink("first"), every_us=1_000, held=(rows(0, 0, length=HELD_BYTES),))

    assert backlog(Publishing(sinks=(holding,))) == (0, 0)


def test_at_the_end_all_that_is_held_becomes_one_batch_behind_what_is_pending() -> None:
    holding = replace(sink("first", rows(3, 0)), every_us=9, held=(rows(4, 0), rows(6, 0)))

    [after] = roll_all(Publishing(sinks=(holding,)), 7, 70).sinks

    assert [(p.batch, sum(len(lane.segments) for lane in p.lanes)) for p in after.pending] == [(3, 1), (7, 2)]
    assert after.held == ()
