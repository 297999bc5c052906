"""Looking at checkpoints without a cluster: batches, operators, and state as pandas computes it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queries import Row, frames, to_memory, totals
from workers import Cluster

from microstream.checkpoint.memory import MemoryStore
from microstream.errors import CheckpointError, PlanError
from microstream.runtime.opened import Checkpoint, open_checkpoint

SIZE_US = 10
rows = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(-9, 9), st.integers(0, 60)), min_size=1, max_size=8
)


def cluster_of(*batches: list[Row], delay_us: int = 0, **options: Any) -> Cluster:
    return Cluster(to_memory(out=totals(frames(*batches, delay_us=delay_us), size_us=SIZE_US)), **options)


def open_windows(batches: list[list[Row]], delay_us: int) -> pd.DataFrame:
    """Sums per key and window that are still open after the last of `batches`."""
    kept: list[tuple[Any, ...]] = []
    watermark = newest = -(10**9)
    for batch in batches:
        kept += [(k, v, SIZE_US * (t // SIZE_US + 1)) for k, v, t in batch if SIZE_US * (t // SIZE_US + 1) > watermark]
        newest = max([newest, *(t for _, _, t in batch)])
        watermark = newest - delay_us
    still = pd.DataFrame([row for row in kept if row[2] > watermark], columns=["key", "value", "end"])
    return still.groupby(["end", "key"], as_index=False).agg(n=("value", "size"), total=("value", "sum"))


@settings(deadline=None, max_examples=30)
@given(batches=st.lists(rows, min_size=1, max_size=5), delay_us=st.integers(0, 30), data=st.data())
def test_the_state_of_any_batch_is_what_pandas_finds_in_open_windows(
    batches: list[list[Row]], delay_us: int, data: st.DataObject
) -> None:
    cluster = cluster_of(*batches, delay_us=delay_us, addresses=("a", "b", "a"))
    for _ in batches[:-1]:
        cluster.batch()
    batch = data.draw(st.integers(0, len(batches) - 2)) if len(batches) > 1 else None

    found = Checkpoint(cluster.store).state("aggregate-0", batch=batch)

    expected = open_windows(batches[: batch + 1] if batch is not None else [], delay_us)
    ends = found["window_end"].astype("int64")
    assert [*zip(ends, found["key"], found["n"], found["total"], strict=True)] == [
        *zip(expected["end"], expected["key"], expected["n"], expected["total"], strict=True)
    ]
    assert ((found["average"] * found["filled"] - found["total"]).abs() < 1e-9).all()
    assert list(found) == cluster.stages.operators[0].node.schema.names


BATCHES: list[list[Row]] = [[("a", 1, 5)], [("b", 2, 12), ("a", 3, 14)], [("a", 4, 47)], [("c", 0, 99)]]


def test_batches_are_listed_with_their_rows_and_watermarks() -> None:
    cluster = cluster_of(*BATCHES)
    for _ in BATCHES[:3]:
        cluster.batch()

    listed = Checkpoint(cluster.store).batches()

    assert list(listed["batch"]) == [-1, 0, 1, 2]
    assert list(listed["kind"]) == ["start", "batch", "batch", "batch"]
    assert listed["rows"].tolist()[1:] == [1, 1, 1]  # a memory source counts frames
    assert listed["rows"].isna().tolist() == [True, False, False, False]
    assert [*listed["watermark"].dropna().astype("int64")] == [5, 14, 47]
    assert listed["finished"].tolist() == [False] * 4
    assert listed.dtypes["watermark"] == "datetime64[us]"


def test_operators_are_listed_with_what_they_hold() -> None:
    cluster = cluster_of(*BATCHES)
    for _ in BATCHES[:2]:
        cluster.batch()

    [operator] = Checkpoint(cluster.store).operators().to_dict("records")

    assert (operator["operator"], operator["kind"], operator["lanes"], operator["rows"]) == (
        "aggregate-0",
        "aggregate",
        2,
        2,
    )
    assert operator["bytes"] > 0


def test_what_is_not_there_is_said_with_what_is() -> None:
    cluster = cluster_of(*BATCHES)
    cluster.batch()
    checkpoint = Checkpoint(cluster.store)

    with pytest.raises(PlanError, match=r"state\('totals'\): operators of .*: aggregate-0"):
        checkpoint.state("totals")
    with pytest.raises(CheckpointError, match="batch 7 is not retained; there are batches between -1 and 0"):
        checkpoint.state("aggregate-0", batch=7)
    with pytest.raises(CheckpointError, match="there is no manifest"):
        Checkpoint(MemoryStore()).operators()
    with pytest.raises(PlanError, match="hdfs"):
        open_checkpoint("hdfs://node/totals")
