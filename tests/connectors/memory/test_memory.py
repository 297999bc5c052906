from __future__ import annotations

import pickle

import pyarrow as pa

from microstream.connectors.memory.sink import MemorySink, NullSink
from microstream.connectors.memory.source import PARTITION, MemorySource
from microstream.connectors.protocol import Confirmed, Outgoing, Range, SinkConnector

SCHEMA = pa.schema([("n", pa.int64()), ("s", pa.large_string())])
TABLES = tuple(pa.table({"n": n, "s": ["x"] * len(n)}, schema=SCHEMA) for n in ([1, 2], [], [3]))
SOURCE = MemorySource(tables=TABLES)


def published(sink: SinkConnector, table: pa.Table) -> Confirmed:
    writer = sink.open_writer(job="job", sink="out", lane=0, schema=table.schema)
    rows = writer.encode(table, event_time=None)
    outgoing = Outgoing(job="job", sink="out", lane=0, batch=0, committed=0, rows=rows, chunks=writer.chunks(rows))
    return writer.publish(outgoing)


def test_a_memory_source_is_one_finite_partition_that_is_read_a_table_at_a_time() -> None:
    (bounds,) = SOURCE.open_probe().bounds().values()

    assert (bounds.low, bounds.end, bounds.finished, bounds.max_step) == (0, 3, True, 1)
    assert SOURCE.open_probe().start_offsets("latest") == {PARTITION: 0}


def test_offsets_are_numbers_of_tables_and_a_subset_of_columns_is_enough() -> None:
    subset = pa.schema([SCHEMA.field("n")])
    reader = SOURCE.open_reader(name="m", schema=subset, event_time=None, max_ahead_us=0)
    ranges = [Range(source="m", partition=PARTITION, start=s, end=e) for s, e in ((0, 2), (2, 3))]

    read = reader.read(ranges, batch_time_us=0)

    assert read.table.to_pydict() == {"n": [1, 2, 3]}
    assert read.offsets.tolist() == [0, 0, 2]
    assert [count.rows for count in read.counts] == [2, 1]


def test_reading_nothing_gives_no_rows_of_the_schema() -> None:
    reader = SOURCE.open_reader(name="m", schema=SCHEMA, event_time=None, max_ahead_us=0)

    read = reader.read([], batch_time_us=0)

    assert read.table.schema.equals(SCHEMA)
    assert read.offsets.size == read.table.num_rows == 0


def test_a_memory_source_can_be_shipped() -> None:
    shipped = pickle.loads(pickle.dumps(SOURCE))

    assert [table.to_pydict() for table in shipped.tables] == [table.to_pydict() for table in TABLES]


def test_a_memory_sink_hands_the_rows_back() -> None:
    confirmed = published(MemorySink(), TABLES[0])

    assert confirmed.rows == 2
    assert confirmed.table is not None
    assert confirmed.table.equals(TABLES[0])


def test_a_null_sink_counts_rows_and_stores_none() -> None:
    writer = NullSink().open_writer(job="job", sink="out", lane=0, schema=SCHEMA)

    stored = writer.encode(TABLES[0], event_time=None)
    confirmed = published(NullSink(), TABLES[0])

    assert stored.num_rows == 1
    assert (confirmed.rows, confirmed.table) == (2, None)


def test_neither_sink_outlives_the_process() -> None:
    assert not MemorySink().durable
    assert not NullSink().durable
    assert MemorySink().open_probe().markers("job", "out", [0, 1]) == {0: None, 1: None}
