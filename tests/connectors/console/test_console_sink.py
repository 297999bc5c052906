from __future__ import annotations

import pickle

import pyarrow as pa

from microstream.connectors.console.sink import ConsoleSink
from microstream.connectors.protocol import Confirmed, Outgoing
from microstream.testing.connectors import SCHEMA


def numbers(*values: int) -> pa.Table:
    return pa.table({"n": pa.array(values, pa.int64())}, schema=SCHEMA)


def printed(rows: int, *lanes: pa.Table) -> Confirmed:
    writer = ConsoleSink(rows=rows).open_writer(job="job", sink="out", lane=0, schema=SCHEMA)
    stored = pa.concat_tables([writer.encode(table, event_time=None) for table in lanes])
    outgoing = Outgoing(job="job", sink="out", lane=0, batch=0, committed=0, rows=stored, chunks=writer.chunks(stored))
    return writer.publish(outgoing)


def test_the_first_rows_of_all_lanes_travel_with_the_number_of_all() -> None:
    confirmed = printed(3, numbers(1, 2), numbers(3, 4, 5, 6, 7))

    assert confirmed.rows == 7
    assert confirmed.table is not None
    assert confirmed.table["n"].to_pylist() == [1, 2, 3]


def test_what_travels_to_the_driver_does_not_grow_with_the_rows() -> None:
    confirmed = printed(10, numbers(*range(100_000)), numbers(*range(100_000)))

    assert confirmed.rows == 200_000
    assert len(pickle.dumps(confirmed.table)) < 2_000


def test_a_column_may_have_any_name() -> None:
    schema = pa.schema([pa.field("rows of the lane", pa.int64())])
    writer = ConsoleSink(rows=2).open_writer(job="job", sink="out", lane=0, schema=schema)
    stored = writer.encode(pa.table({"rows of the lane": [7, 8, 9]}, schema=schema), event_time=None)

    confirmed = writer.publish(Outgoing(job="job", sink="out", lane=0, batch=0, committed=0, rows=stored, chunks=(2,)))

    assert confirmed.rows == 3
    assert confirmed.table is not None
    assert confirmed.table.to_pydict() == {"rows of the lane": [7, 8]}
