from __future__ import annotations

import numpy as np
import pyarrow as pa
from queries import frames, totals

from microstream.connectors.protocol import RangeCount, Read
from microstream.operators.order import NOWHERE
from microstream.runtime.incoming import Incoming
from microstream.runtime.places import numbered, places_of_reads, places_of_results


def read(*ranges: tuple[str, list[int]]) -> Read:
    """Rows of some partitions, by their offsets."""
    counts = [
        RangeCount(partition=name, start=0, end=99, rows=len(offsets), bad=0, tombstones=0, bytes=0)
        for name, offsets in ranges
    ]
    found = [offset for _, offsets in ranges for offset in offsets]
    return Read(table=pa.table({"x": found}), offsets=np.array(found, np.int64), counts=tuple(counts))


def test_rows_of_sources_stand_by_source_topic_partition_and_offset() -> None:
    reads = (read(("t-10", [7, 8]), ("t-2", []), ("s-1", [5])), read(("t-0", [3])))
    incoming = Incoming(rows={}, metas=(), reads=reads, first=(0, 3), asked="", names=("b", "a"))

    order = places_of_reads(incoming).of_rows(np.arange(4), np.zeros(4, np.int64))

    assert order.sorted().tolist() == [3, 2, 0, 1]


def test_rows_of_operators_stand_by_key_then_operator_then_as_they_came() -> None:
    node = totals(frames([]))
    one = numbered(pa.table({"key": pa.array(["b", "a", None], pa.large_string())}), 0)
    two = numbered(pa.table({"key": pa.array(["a", "a"], pa.large_string())}), 3)

    places = places_of_results([(node, one), (node, two)])

    assert places.of_rows(np.arange(5), np.zeros(5, np.int64)).sorted().tolist() == [1, 3, 4, 0, 2]
    assert places_of_results([]) is NOWHERE


def test_nothing_that_was_read_has_no_place() -> None:
    assert places_of_reads(Incoming(rows={}, metas=(), reads=(), first=(), asked="")) is NOWHERE
