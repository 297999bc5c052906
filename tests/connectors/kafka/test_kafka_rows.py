"""Counts of a read say what became of every record."""

from __future__ import annotations

import hypothesis.strategies as st
import pyarrow as pa
from hypothesis import given, settings

from microstream.connectors.kafka.rows import BadRecords, Taken, rows_of
from microstream.connectors.protocol import Range
from microstream.formats.json import JsonDecoder

DECODER = JsonDecoder(pa.schema([pa.field("n", pa.int64(), nullable=False)]))
records = st.one_of(
    st.none(), st.sampled_from([b"", b"{}", b'{"n":1}{"n":2}']), st.integers(0, 9).map(b'{"n":%d}'.__mod__)
)
parts = st.lists(st.lists(records, max_size=6), min_size=1, max_size=4)


@settings(deadline=None)
@given(made=parts, skipped=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 6))))
def test_every_record_is_a_row_or_is_counted(made: list[list[bytes | None]], skipped: set[tuple[int, int]]) -> None:
    taken = [
        Taken(
            range=Range(source="s", partition=f"t-{number}", start=0, end=10),
            offsets=list(range(len(values))),
            values=values,
        )
        for number, values in enumerate(made)
    ]
    skip = frozenset((f"t-{number}", offset) for number, offset in skipped)

    read = rows_of(taken, DECODER, latest_us=0, policy=BadRecords(action="drop", skip=skip))

    good = [
        [
            (offset, value)
            for offset, value in enumerate(values)
            if value and len(value) == 7 and (n, offset) not in skipped
        ]
        for n, values in enumerate(made)
    ]
    assert read.table["n"].to_pylist() == [int(value[5:6]) for part in good for _, value in part]
    assert read.offsets.tolist() == [offset for part in good for offset, _ in part]
    assert [count.rows for count in read.counts] == [len(part) for part in good]
    assert [c.rows + c.bad + c.tombstones for c in read.counts] == [len(values) for values in made]
    assert [count.bytes for count in read.counts] == [sum(len(v) for v in values if v) for values in made]
