from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inline_query import run

import microstream as ms
from microstream.checkpoint.commit import head
from microstream.checkpoint.local import LocalStore


def batches(*sizes: int) -> list[pd.DataFrame]:
    bounds = np.cumsum([0, *sizes])
    return [pd.DataFrame({"n": np.arange(a, b), "s": "x"}) for a, b in pairwise(bounds)]


def test_a_function_gets_every_row_once_by_batch_and_lane(tmp_path: Path) -> None:
    calls: list[tuple[ms.Batch, pd.DataFrame]] = []
    frame = ms.from_pandas(batches(3, 0, 2))

    run(frame.for_each_batch(lambda rows, batch: calls.append((batch, rows))), folder=tmp_path)

    assert sorted(n for _, rows in calls for n in rows["n"]) == [0, 1, 2, 3, 4]
    assert [batch.id for batch, _ in calls] == [0, 2]
    assert len({(batch.job, batch.sink, batch.lane, batch.id) for batch, _ in calls}) == len(calls)
    assert {batch.sink for batch, _ in calls} == {"for_each_batch"}
    assert all(str(rows.dtypes["n"]) == "int64" for _, rows in calls)


def test_an_error_of_the_function_ends_the_query_and_the_next_start_calls_it_with_the_same_rows(
    tmp_path: Path,
) -> None:
    seen: list[tuple[int, int, list[int]]] = []
    broken = True

    def write(rows: pd.DataFrame, batch: ms.Batch) -> None:
        seen.append((batch.id, batch.epoch, rows["n"].tolist()))
        if broken and batch.id == 1:
            raise ValueError("disk full")

    source = batches(2, 3, 1)
    with pytest.raises(ms.UserFunctionError, match=r"sink 'out', batch 1, lane 0: .*write failed.*disk full") as caught:
        run(ms.from_pandas(source).for_each_batch(write, name="out"), folder=tmp_path)
    calls_before = len(seen)
    broken = False
    run(ms.from_pandas(source).for_each_batch(write, name="out"), folder=tmp_path)

    assert (caught.value.operator, caught.value.batch, caught.value.lane) == ("out", 1, 0)
    assert isinstance(caught.value.__cause__, ValueError)
    assert [call[0] for call in seen[:calls_before]] == [0, 1]
    # At least once: the call for batch 0 may be repeated, if its confirmation had not reached a manifest.
    assert [call[::2] for call in seen[calls_before:] if call[0] > 0] == [(1, [2, 3, 4]), (2, [5])]
    assert all(call[2] == [0, 1] for call in seen if call[0] == 0)
    assert seen[-1][1] > seen[0][1]


def test_nothing_is_called_before_its_batch_is_committed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    committed = []

    def look(rows: pd.DataFrame, batch: ms.Batch) -> None:
        newest = head(store)
        committed.append(newest is not None and newest.batch >= batch.id)

    run(ms.from_pandas(batches(1, 1, 1)).for_each_batch(look), folder=tmp_path)

    assert committed == [True, True, True]


@settings(deadline=None, max_examples=10)
@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=3), shown=st.integers(1, 25))
def test_the_console_gets_the_first_rows_of_a_batch_and_its_count(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], shown: int
) -> None:
    frame = ms.from_pandas(batches(*sizes))

    heard = run(frame.to_console(shown), folder=tmp_path_factory.mktemp("checkpoint"))

    filled = [(batch, size) for batch, size in enumerate(sizes) if size]
    assert [(sink, batch, total) for sink, batch, _, total in heard.printed] == [
        ("console", batch, size) for batch, size in filled
    ]
    for (_, size), (_, _, table, _) in zip(filled, heard.printed, strict=True):
        assert table.column_names == ["n", "s"]
        assert table.num_rows == min(size, shown)


def test_lanes_of_a_batch_are_printed_as_one_table(tmp_path: Path) -> None:
    rows = pd.DataFrame({"k": np.arange(40), "at": pd.Timestamp("2026-01-01")})
    frame = ms.from_pandas(rows, event_time="at").groupby("k").window(ms.tumbling("1s")).size()

    heard = run(frame.to_console(rows=50), folder=tmp_path, lanes=4)

    assert [(table.num_rows, total) for _, _, table, total in heard.printed] == [(40, 40)]


def test_the_console_needs_no_checkpoint_and_a_function_does() -> None:
    frame = ms.from_pandas(batches(1))

    with pytest.raises(ms.PlanError, match="'for_each_batch' outlives this process"):
        frame.for_each_batch(lambda rows, batch: None).start()
    assert not frame.to_console()._node.spec.durable


async def waiting(rows: pd.DataFrame, batch: ms.Batch) -> None:
    """Would have to be awaited."""


def yielding(rows: pd.DataFrame, batch: ms.Batch) -> Iterator[int]:
    yield len(rows)


def guarded(lock: Any, rows: pd.DataFrame, batch: ms.Batch) -> None:
    """Holds what only this process has."""


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda f: f.for_each_batch("print"), "give a function"),
        (lambda f: f.for_each_batch(lambda frame: None), "is called with a pandas frame and a batch"),
        (lambda f: f.for_each_batch(waiting), "returns a coroutine"),
        (lambda f: f.for_each_batch(yielding), "returns a generator"),
        (lambda f: f.for_each_batch(functools.partial(guarded, threading.Lock())), "cannot be sent to workers"),
        (lambda f: f.to_console(0), "at least 1"),
        (lambda f: f.to_memory(output_mode="complete"), "there is none here"),
        (lambda f: f.to_null(output_mode="upsert"), "must be one of 'append'"),
        (lambda f: f.to_kafka("t", bootstrap_servers="host:1", output_mode="update"), "Name the columns"),
    ],
)
def test_a_wrong_sink_fails_when_it_is_written(write: object, says: str) -> None:
    with pytest.raises(ms.PlanError, match=says):
        write(ms.from_pandas(batches(1)))  # type: ignore[operator]
