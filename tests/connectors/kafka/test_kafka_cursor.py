"""What a cursor hands out does not depend on how records arrive."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given, settings

from microstream.connectors.kafka.cursor import Cursor

offsets = st.sets(st.integers(0, 60), max_size=30).map(sorted)


@settings(deadline=None)
@given(present=offsets, cuts=offsets, data=st.data())
def test_ranges_give_each_record_once_for_any_arrival(present: list[int], cuts: list[int], data: st.DataObject) -> None:
    cursor = Cursor(topic="t", number=0)
    cursor.restart(0)
    waiting = list(present)
    taken: list[int] = []

    for end in [*cuts, 61]:
        while not cursor.has(end):
            count = data.draw(st.integers(1, 5))
            arrived, waiting = waiting[:count], waiting[count:]
            if arrived:
                gapless = arrived[-1] - arrived[0] == len(arrived) - 1
                there = range(arrived[0], arrived[-1] + 1) if gapless else arrived
                cursor.receive(there, [b"x"] * len(arrived), {"_key": [b"%d" % offset for offset in arrived]})
            if not waiting:
                cursor.eof = 61
        found, values, details = cursor.take(end)
        assert all(offset < end for offset in found)
        assert len(found) == len(values)
        assert details.get("_key", []) == [b"%d" % offset for offset in found]
        taken += found

    assert taken == present


def test_an_end_of_partition_completes_a_range_without_its_last_record() -> None:
    cursor = Cursor(topic="t", number=0)
    cursor.restart(5)
    cursor.receive([5, 6], [b"a", b"b"])
    assert not cursor.has(9)

    cursor.eof = 9

    assert cursor.has(9)
    assert not cursor.has(10)


def test_a_seek_forgets_what_was_received_and_the_end() -> None:
    cursor = Cursor(topic="t", number=0)
    cursor.restart(5)
    cursor.receive([5], [b"a"])
    cursor.eof = 6

    cursor.restart(2)

    assert (cursor.due, cursor.position, list(cursor.offsets), cursor.has(6)) == (2, 2, [], False)


def test_a_cursor_that_keeps_too_many_bytes_is_full() -> None:
    cursor = Cursor(topic="t", number=0)
    cursor.restart(0)
    cursor.receive([0, 1], [bytes(9 << 20), None])
    assert not cursor.is_full()

    cursor.receive([2], [bytes(9 << 20)])

    assert cursor.is_full()

    cursor.take(3)
    assert not cursor.is_full()
