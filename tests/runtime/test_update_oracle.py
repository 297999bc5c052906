"""Every aggregate in output modes update and complete, against values found anew after each batch."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queries import Row, frames, to_memory
from test_window_oracle import ALL, assert_same, ends_of, keys, records, rows, value_of, values, windows
from workers import Cluster

from microstream.connectors.memory.sink import MemorySink
from microstream.plan.nodes import Aggregate, Late, RunningAggregate, Sink, Sliding, Source, Tumbling, WindowAggregate
from microstream.plan.stages import cut

Spec = Tumbling | Sliding
Group = tuple[Any, int | None]
"""A key, and the end of its window where there are windows."""

Standing = dict[Group, dict[str, Any]]

specs = st.one_of(st.none(), windows())
batches_of_rows = st.lists(rows, min_size=1, max_size=6)
some = st.lists(st.sampled_from(ALL), min_size=1, max_size=4, unique=True)


def standing(
    batches: Sequence[Sequence[Row]],
    spec: Spec | None,
    delay: int,
    aggregates: Sequence[Aggregate],
    keyed: bool,
    lateness: int = 0,
) -> list[Standing]:
    """All groups after each batch; late rows, of which there are none without windows, are left out."""
    found, watermark = [], -math.inf
    groups: defaultdict[Group, list[Row]] = defaultdict(list)
    for batch in batches:
        for row in batch:
            for end in (None,) if spec is None else ends_of(row[2], spec):
                if end is None or end + lateness > watermark:
                    groups[row[0] if keyed else 0, end].append(row)
        watermark = max([watermark, *(row[2] - delay for row in batch)])
        found.append(
            {
                group: {
                    a.name: value_of(a, [v for _, v, _ in sorted(of_group, key=lambda row: row[2])]) for a in aggregates
                }
                for group, of_group in groups.items()
            }
        )
    return found


def watermarks(batches: Sequence[Sequence[Row]], delay: int) -> list[float]:
    """W(-1), W(0) and so on; the input ends with the last batch."""
    reached = [-math.inf]
    for batch in batches:
        reached.append(max([reached[-1], *(row[2] - delay for row in batch)]))
    return [*reached[:-1], math.inf]


def as_records(groups: Standing, spec: Spec | None, keyed: bool) -> list[dict[str, Any]]:
    return [
        {**({"key": key} if keyed else {})}
        | ({} if spec is None else {"window_start": end - spec.size_us, "window_end": end})  # type: ignore[operator]
        | values
        for (key, end), values in groups.items()
    ]


def changed(before: Standing, after: Standing) -> Standing:
    return {group: values for group, values in after.items() if group not in before or before[group] != values}


def operator(child: Source, spec: Spec | None, aggregates: Sequence[Aggregate], keyed: bool, lateness: int = 0) -> Any:
    by = ("key",) if keyed else ()
    if spec is None:
        return RunningAggregate(child=child, keys=by, aggregates=tuple(aggregates))
    return WindowAggregate(
        child=child, keys=by, window=spec, on="at", aggregates=tuple(aggregates), lateness_us=lateness
    )


@pytest.mark.parametrize("mode", ["update", "complete"])
@settings(deadline=None, max_examples=80)
@given(
    batches=batches_of_rows,
    spec=specs,
    aggregates=some,
    delay=st.integers(0, 30),
    lateness=st.sampled_from([0, 5, 40]),
    keyed=st.booleans(),
    lanes=st.integers(1, 3),
    data=st.data(),
)
def test_lanes_and_restarts_find_what_was_found_anew_after_each_batch(
    mode: Any,
    batches: list[list[Row]],
    spec: Spec | None,
    aggregates: list[Aggregate],
    delay: int,
    lateness: int,
    keyed: bool,
    lanes: int,
    data: st.DataObject,
) -> None:
    node = operator(frames(*batches, delay_us=delay), spec, aggregates, keyed, lateness)
    addresses = tuple("abc"[:lanes])
    cluster = Cluster(cut((Sink(child=node, name="out", spec=MemorySink(), mode=mode),)), addresses)
    wanted = standing(batches, spec, delay, aggregates, keyed, lateness)

    before: Standing = {}
    for after in wanted:
        for address in data.draw(st.sets(st.sampled_from(addresses)), label="workers that forget everything"):
            cluster.start(address)
        published = cluster.published(cluster.batch())
        emitted = records(published["out"]) if "out" in published else []
        shown = after if mode == "complete" else changed(before, after)
        assert_same(emitted, as_records(shown, spec, keyed))
        before = after


@settings(deadline=None, max_examples=80)
@given(
    batches=batches_of_rows,
    spec=windows(),
    aggregates=some,
    delay=st.integers(0, 30),
    lateness=st.integers(1, 60),
    keyed=st.booleans(),
    lanes=st.integers(1, 3),
    data=st.data(),
)
def test_windows_that_closed_come_again_with_the_next_number_when_they_change(
    batches: list[list[Row]],
    spec: Spec,
    aggregates: list[Aggregate],
    delay: int,
    lateness: int,
    keyed: bool,
    lanes: int,
    data: st.DataObject,
) -> None:
    node = operator(frames(*batches, delay_us=delay), spec, aggregates, keyed, lateness)
    addresses = tuple("abc"[:lanes])
    late = Late(operator=node)
    cluster = Cluster(to_memory(out=node, late=late), addresses)
    wanted = standing(batches, spec, delay, aggregates, keyed, lateness)
    reached = watermarks(batches, delay)

    before: Standing = {}
    numbers: dict[Group, int] = {}
    lost = 0
    for at, after in enumerate(wanted):
        for address in data.draw(st.sets(st.sampled_from(addresses)), label="workers that forget everything"):
            cluster.start(address)
        published = cluster.published(cluster.batch())
        emitted = records(published["out"]) if "out" in published else []
        lost += published["late"].num_rows if "late" in published else 0
        closed = {group: values for group, values in after.items() if group[1] <= reached[at + 1]}  # type: ignore[operator]
        opened = {group for group in closed if group[1] > reached[at]}  # type: ignore[operator]
        shown = {
            group: values for group, values in closed.items() if group in opened or group in changed(before, after)
        }
        numbers |= {group: numbers.get(group, -1) + 1 for group in shown}
        assert_same(emitted, as_records({g: {**v, "_revision": numbers[g]} for g, v in shown.items()}, spec, keyed))
        before = after
    ends = [(end, reached[at]) for at, batch in enumerate(batches) for row in batch for end in ends_of(row[2], spec)]
    assert lost == sum(end + lateness <= watermark for end, watermark in ends)


@settings(deadline=None, max_examples=40)
@given(batches=batches_of_rows, spec=windows(), delay=st.integers(0, 30))
def test_late_rows_are_those_that_append_finds(batches: list[list[Row]], spec: Spec, delay: int) -> None:
    total = (Aggregate(name="total", column="value", how="sum"),)
    found = []
    for mode in ("append", "update"):
        node = operator(frames(*batches, delay_us=delay), spec, total, keyed=True)
        out = Sink(child=node, name="out", spec=MemorySink(), mode=mode)  # type: ignore[arg-type]
        late = Sink(child=Late(operator=node), name="late", spec=MemorySink())
        cluster = Cluster(cut((out, late)), ("a", "b"))
        published = [cluster.published(cluster.batch()) for _ in batches]
        found.append([records(tables["late"]) if "late" in tables else [] for tables in published])

    for appended, updated in zip(*found, strict=True):
        assert_same(updated, appended)


def test_windows_that_closed_leave_the_state_in_update_mode_and_stay_in_complete_mode() -> None:
    batches = [[("a", 1, 5), ("b", 2, 15)], [("a", 3, 25)], [("b", 4, 35)]]
    held = {}
    for mode in ("update", "complete"):
        node = operator(frames(*batches), Tumbling(size_us=10), ALL[:1], keyed=True)
        cluster = Cluster(cut((Sink(child=node, name="out", spec=MemorySink(), mode=mode),)), ("a",))  # type: ignore[arg-type]
        for _ in batches:
            record = cluster.batch()
        [change] = [change for receipt in record.receipts for change in receipt.changes]
        held[mode] = change.rows_held

    assert held == {"update": 0, "complete": 4}  # the input has ended


@given(batches=st.lists(st.lists(st.tuples(keys, values, st.integers(0, 5)), max_size=5), min_size=1, max_size=4))
@settings(deadline=None, max_examples=30)
def test_without_event_time_the_order_of_rows_is_that_in_which_they_came(batches: list[list[Row]]) -> None:
    edges = tuple(Aggregate(name=how, column="value", how=how) for how in ("first", "last", "list"))
    source = replace(frames(*batches), event_time=None)
    cluster = Cluster(to_memory(out=operator(source, None, edges, keyed=True)), ("a", "b"))
    in_order = [[(key, value, 0) for key, value, _ in batch] for batch in batches]
    wanted = standing(in_order, None, 0, edges, keyed=True)

    emitted: list[dict[str, Any]] = []
    for _ in batches:
        published = cluster.published(cluster.batch())
        emitted += records(published["out"]) if "out" in published else []

    newest = {record["key"]: record for record in emitted}
    assert_same(newest.values(), as_records(wanted[-1], None, keyed=True))


def test_a_running_aggregate_takes_closed_windows() -> None:
    batches = [[("a", 1, 5), ("a", 2, 15)], [("a", 4, 25), ("b", 8, 26)], [("a", 16, 60)]]
    inner = operator(frames(*batches), Tumbling(size_us=10), [Aggregate(name="value", column="value", how="sum")], True)
    outer = RunningAggregate(
        child=inner,
        keys=("key",),
        aggregates=(
            Aggregate(name="windows", column=None, how="size"),
            Aggregate(name="last", column="value", how="last"),
        ),
    )
    cluster = Cluster(to_memory(out=outer), ("a", "b"))

    found: list[list[tuple[Any, ...]]] = []
    for _ in batches:
        published = cluster.published(cluster.batch())
        table = published.get("out", pa.table({}))
        found.append(sorted(tuple(record.values()) for record in table.to_pylist()))

    assert found == [[("a", 1, 1)], [("a", 2, 2)], [("a", 4, 16), ("b", 1, 8)]]
