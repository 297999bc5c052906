"""A whole result arrives as a whole: of all lanes at once, in every batch, also when nothing is left of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from inline_query import run
from queries import frames, table

import microstream as ms
from microstream.connectors.memory.sink import MemorySink
from microstream.plan.nodes import Sink
from microstream.runtime.memory_tables import MemoryTables

KEYS = 40

ToSink = Callable[[ms.StreamFrame], ms.StreamSink]


def totals() -> ms.StreamFrame:
    """Of batch 0 all are zero, of batch 1 one, of batch 2 three."""
    batches = [pd.DataFrame({"k": np.arange(KEYS), "n": batch}) for batch in range(3)]
    return ms.from_pandas(batches).groupby("k").agg(total=("n", "sum"))


def to_function(frame: ms.StreamFrame, into: list[tuple[int, int, int]]) -> ms.StreamSink:
    def take(rows: pd.DataFrame, batch: ms.Batch) -> None:
        into.append((batch.id, batch.lane, len(rows)))
        assert list(rows.columns) == ["k", "total"]
        assert rows["k"].dtype == "int64"

    return frame.for_each_batch(take, output_mode="complete")


@pytest.mark.parametrize(
    "to_sink",
    [
        lambda f: f.to_memory(name="out", output_mode="complete"),
        lambda f: f.to_console(name="out", rows=KEYS, output_mode="complete"),
    ],
    ids=["memory", "console"],
)
def test_all_lanes_of_a_whole_result_arrive_at_once_also_without_rows(to_sink: ToSink, tmp_path: Path) -> None:
    found = totals()

    heard = run(to_sink(found[found["total"] < 3]), folder=tmp_path, lanes=4)

    assert [(batch, rows.num_rows, total) for _, batch, rows, total in heard.printed] == [
        (0, KEYS, KEYS),
        (1, KEYS, KEYS),
        (2, 0, 0),
    ]


def test_a_function_gets_a_whole_result_in_one_call_also_without_rows(tmp_path: Path) -> None:
    calls: list[tuple[int, int, int]] = []
    found = totals()

    run(to_function(found[found["total"] < 3], calls), folder=tmp_path, lanes=4)

    assert calls == [(0, 0, KEYS), (1, 0, KEYS), (2, 0, 0)]


@pytest.mark.parametrize("mode", ["append", "update"])
def test_without_rows_nothing_arrives_of_rows_that_are_given_once(
    mode: Literal["append", "update"], tmp_path: Path
) -> None:
    rows = pd.DataFrame({"k": [1, 2]})
    frame: Any = ms.from_pandas([rows, rows])

    heard = run(frame[frame["k"] > 5].to_memory(name="out", output_mode=mode), folder=tmp_path, lanes=2)

    assert heard.printed == []


def test_a_whole_result_replaces_the_one_before() -> None:
    tables = MemoryTables([Sink(child=frames(), name="out", spec=MemorySink(), mode="complete")])
    for batch, rows in enumerate([[("a", 1, 0)], [("a", 3, 0), ("b", 2, 0)], []]):
        tables.add("out", batch, table(rows))
        assert tables.table("out").equals(table(rows))
