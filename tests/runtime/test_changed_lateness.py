"""A query that goes on with another `allowed_lateness`: each row is counted in its windows or late, never both."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queries import Row, frames, totals
from test_update_oracle import batches_of_rows
from test_window_oracle import Spec, ends_of, records, windows
from workers import Cluster

from microstream.connectors.memory.sink import MemorySink
from microstream.plan.nodes import Aggregate, Late, Sink, Sliding, Tumbling, WindowAggregate
from microstream.plan.specs import OutputMode
from microstream.plan.stages import Stages, cut

COUNT = (Aggregate(name="n", column=None, how="size"),)


def plan(node: WindowAggregate, mode: OutputMode, lateness: int) -> Stages:
    chosen = replace(node, lateness_us=lateness)
    out = Sink(child=chosen, name="out", spec=MemorySink(), mode=mode)
    return cut((out, Sink(child=Late(operator=chosen), name="late", spec=MemorySink())))


def counts(node: WindowAggregate, emitted: Sequence[dict[str, Any]]) -> dict[tuple[Any, int], int]:
    """The newest of each window."""
    return {(record["key"], record["window_end"]): record["n"] for record in emitted}


@settings(deadline=None, max_examples=150)
@given(
    mode=st.sampled_from(["append", "update", "complete"]),
    batches=batches_of_rows,
    spec=windows(),
    delay=st.integers(0, 30),
    lateness=st.tuples(st.integers(1, 60), st.integers(0, 60)),
    lanes=st.integers(1, 2),
    data=st.data(),
)
def test_rows_are_counted_or_late_never_both(
    mode: OutputMode,
    batches: list[list[Row]],
    spec: Spec,
    delay: int,
    lateness: tuple[int, int],
    lanes: int,
    data: st.DataObject,
) -> None:
    first, second = lateness[0], max(lateness[1], mode == "append")
    node = replace(totals(frames(*batches, delay_us=delay), id="totals", aggregates=COUNT), window=spec)
    changes_at = data.draw(st.integers(0, len(batches)), label="batch before which it changes")
    cluster = Cluster(plan(node, mode, first), ("a", "b")[:lanes])
    model: Counter[tuple[Any, int]] = Counter()
    lost, emitted, watermark, closed = 0, [], -math.inf, -math.inf
    for at, batch in enumerate(batches):
        if at == changes_at:
            cluster.change(plan(node, mode, second))
            closed = max(closed, watermark - second)
        for key, _, time in batch:
            for end in ends_of(time, spec):
                lost += end <= closed
                model[key, end] += end > closed
        watermark = max([watermark, *(time - delay for _, _, time in batch)])
        closed = max(closed, watermark - (first if at < changes_at else second))
        published = cluster.published(cluster.batch())
        emitted += records(published["out"]) if "out" in published else []
        lost -= published["late"].num_rows if "late" in published else 0

    assert counts(node, emitted) == +model
    assert lost == 0


@pytest.mark.parametrize("window", [Tumbling(size_us=10), Sliding(size_us=20, every_us=10)])
@pytest.mark.parametrize("lateness", [0, 5])
def test_windows_that_closed_are_not_given_again_by_an_operator_that_starts_empty(window: Spec, lateness: int) -> None:
    batches = [[("a", 1, 5)], [("a", 1, 41)], [("a", 1, 15), ("a", 1, 35), ("a", 1, 42)], [("a", 1, 90)]]
    node = replace(totals(frames(*batches), id="totals", aggregates=COUNT), window=window)
    cluster = Cluster(plan(node, "append", 100), ("a", "b"))
    for _ in range(2):
        cluster.batch()
    other = replace(node, keys=()) if lateness else node

    cluster.change(plan(other, "append", lateness), {"totals": "reset"})
    published = [cluster.published(cluster.batch()) for _ in range(2)]

    ends = [end for tables in published if "out" in tables for end in (r["window_end"] for r in records(tables["out"]))]
    assert ends
    assert min(ends) > 41
    late = [tables["late"].num_rows for tables in published if "late" in tables]
    assert sum(late) == sum(end <= 41 for time in (15, 35, 42) for end in ends_of(time, window))
