"""Counts of a read say what became of every record."""

from __future__ import annotations

import datetime
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
from hypothesis import given, settings

from microstream.connectors.kafka.attributes import ATTRIBUTES
from microstream.connectors.kafka.rows import BadRecords, Layout, Taken, rows_of
from microstream.connectors.protocol import Range
from microstream.formats.json import JsonDecoder

SCHEMA = pa.schema([pa.field("n", pa.int64(), nullable=False)])
DECODER = JsonDecoder(SCHEMA)
LAYOUT = Layout(schema=SCHEMA)
records = st.one_of(
    st.none(), st.sampled_from([b"", b"{}", b'{"n":1}{"n":2}']), st.integers(0, 9).map(b'{"n":%d}'.__mod__)
)
parts = st.lists(st.lists(records, max_size=6), min_size=1, max_size=4)


@settings(deadline=None)
@given(made=parts, skipped=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 6))))
def test_every_record_is_a_row_or_is_counted(made: list[list[bytes | None]], skipped: set[tuple[int, int]]) -> None:
    taken = [
        Taken(
            range=range_of(f"t-{number}"),
            offsets=list(range(len(values))),
            values=values,
        )
        for number, values in enumerate(made)
    ]
    skip = frozenset((f"t-{number}", offset) for number, offset in skipped)

    read = rows_of(taken, DECODER, LAYOUT, latest_us=0, policy=BadRecords(action="drop", skip=skip))

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


LATEST_MS = 100
headers = st.none() | st.lists(st.tuples(st.text(max_size=3), st.none() | st.binary(max_size=3)), max_size=2)
carried = st.tuples(
    records,
    st.none() | st.binary(max_size=3),
    st.tuples(st.just(1), st.integers(0, 2 * LATEST_MS) | st.just(-1)),
    headers,
)


@settings(deadline=None)
@given(
    made=st.lists(st.lists(carried, max_size=6), min_size=1, max_size=4),
    columns=st.sets(st.sampled_from(list(ATTRIBUTES))),
    tombstones=st.booleans(),
    by_record_time=st.booleans(),
)
def test_columns_of_records_are_what_each_record_carries(
    made: list[list[Any]], columns: set[str], tombstones: bool, by_record_time: bool
) -> None:
    columns |= {"n", "_timestamp"} if by_record_time else {"n"}
    n = SCHEMA.field("n").with_nullable(tombstones)
    schema = pa.schema([n, *(field for name, field in ATTRIBUTES.items() if name in columns)])
    layout = Layout(schema=schema, event_time="_timestamp" if by_record_time else None, tombstones=tombstones)
    taken = [taken_of(f"a-b-{number}", part, layout.details) for number, part in enumerate(made)]
    decoder = JsonDecoder(layout.value_schema(["n"]))

    read = rows_of(taken, decoder, layout, latest_us=LATEST_MS * 1000, policy=BadRecords(action="drop"))

    expected = [
        (number, offset, record)
        for number, part in enumerate(made)
        for offset, record in enumerate(part)
        if is_row(record, tombstones, by_record_time)
    ]
    assert read.table.to_pylist() == [
        {name: value for name, value in row_of(*each).items() if name in columns} for each in expected
    ]
    assert read.table.schema == schema
    read.table.validate(full=True)
    assert read.offsets.tolist() == [offset for _, offset, _ in expected]
    assert [c.rows + c.bad + c.tombstones for c in read.counts] == [len(part) for part in made]
    assert sum(count.bad for count in read.counts) == len(read.bad)
    for bad in read.bad:
        value, key, (_, time_ms), own_headers = made[int(bad.partition[-1])][bad.offset]
        assert bad.value == value
        assert bad.key == (key if "_key" in columns else None)
        assert bad.time_us == (time_ms * 1000 if "_timestamp" in layout.details and time_ms >= 0 else None)
        assert bad.headers == (tuple(own_headers) if "_headers" in columns and own_headers is not None else None)


def test_a_tombstones_row_has_the_time_of_its_record() -> None:
    schema = pa.schema(
        [pa.field("t", pa.timestamp("us"), nullable=False), pa.field("n", pa.int64()), ATTRIBUTES["_key"]]
    )
    layout = Layout(schema=schema, event_time="t", tombstones=True)
    values = [b'{"t":"1970-01-01T00:00:09","n":1}', None, b'{"t":"1970-01-01T00:00:08","n":2}', b'{"n":3}', None]
    times = [0, 5_000, 0, 0, 99_000]
    details = {"_key": [b"k"] * 5, "_timestamp": [(1, time_ms) for time_ms in times]}
    part = Taken(range=range_of("t-0"), offsets=list(range(5)), values=values, details=details)
    decoder = JsonDecoder(layout.value_schema(["n"]), "t")

    read = rows_of([part], decoder, layout, latest_us=10_000_000, policy=BadRecords(action="drop"))

    seconds = [None if t is None else t.second for t in read.table["t"].to_pylist()]
    assert list(zip(seconds, read.table["n"].to_pylist(), strict=True)) == [(9, 1), (5, None), (8, 2)]
    assert [(bad.offset, bad.reason[:26]) for bad in read.bad] == [
        (3, "t is null or missing, but "),
        (4, "event time _timestamp is 1"),
    ]


def is_row(record: Any, tombstones: bool, by_record_time: bool) -> bool:
    value, _, (_, time_ms), _ = record
    in_time = 0 <= time_ms <= LATEST_MS or not by_record_time
    return in_time and (tombstones if value is None else len(value) == 7)


def row_of(number: int, offset: int, record: Any) -> dict[str, Any]:
    value, key, (_, time_ms), own_headers = record
    return {
        "n": None if value is None else int(value[5:6]),
        "_topic": "a-b",
        "_partition": number,
        "_offset": offset,
        "_timestamp": None if time_ms < 0 else datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=time_ms),
        "_key": key,
        "_headers": [{"key": name, "value": content} for name, content in own_headers or ()],
    }


def taken_of(partition: str, part: list[Any], details: tuple[str, ...]) -> Taken:
    values, keys, times, own_headers = (list(column) for column in zip(*part, strict=True)) if part else ([],) * 4
    carries = {"_key": keys, "_timestamp": times, "_headers": own_headers}
    return Taken(
        range=range_of(partition),
        offsets=list(range(len(part))),
        values=values,
        details={name: carries[name] for name in details if part},
    )


def range_of(partition: str) -> Range:
    return Range(source="s", partition=partition, start=0, end=10)
