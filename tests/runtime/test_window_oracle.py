"""Every aggregate in tumbling and sliding windows against a direct computation over all rows."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from queries import SCHEMA, Row, frames, to_memory, tuples
from workers import Cluster

from microstream.plan.expr import Call, Column, Literal
from microstream.plan.nodes import Aggregate, Late, Node, Sliding, Tumbling, WindowAggregate
from microstream.runtime.query import compute

PAID = Call("gt", (Column("value"), Literal(0)))
HOWS = ("count", "sum", "min", "max", "mean", "std", "var", "any", "all", "first", "last", "list", "nunique")
PLAIN = tuple(Aggregate(name=how, column="value", how=how) for how in (*HOWS, "size"))
ALL = (*PLAIN, *(Aggregate(name=f"{a.name}_paid", column="value", how=a.how, where=PAID) for a in PLAIN))

Spec = Tumbling | Sliding
Used = tuple[int, Row]
"""A row and the end of one of its windows."""


@st.composite
def windows(draw: st.DrawFn) -> Spec:
    size, offset = draw(st.integers(1, 40)), draw(st.integers(-50, 50))
    every = draw(st.integers(1, size))
    return Tumbling(size_us=size, offset_us=offset) if every == size else Sliding(
        size_us=size, every_us=every, offset_us=offset
    )  # fmt: skip


keys = st.one_of(st.none(), st.sampled_from(["a", "b", "ü"]))
values = st.one_of(st.none(), st.integers(-4, 9))
rows = st.lists(st.tuples(keys, values, st.integers(-40, 90)), max_size=12)
some = st.lists(st.sampled_from(ALL), min_size=1, max_size=5, unique=True)


def ends_of(at: int, spec: Spec) -> Iterator[int]:
    """Ends of the windows that hold a time."""
    every = spec.size_us if isinstance(spec, Tumbling) else spec.every_us
    start = (at - spec.offset_us) // every * every + spec.offset_us
    while start + spec.size_us > at:
        yield start + spec.size_us
        start -= every


def judged(batches: Sequence[Sequence[Row]], spec: Spec, delay: int) -> tuple[list[Used], list[Used]]:
    """Rows per window in which they are used, and per window for which they are late; batch by batch."""
    used, late, watermark = [], [], -math.inf
    for batch in batches:
        for row in batch:
            for end in ends_of(row[2], spec):
                (late if end <= watermark else used).append((end, row))
        watermark = max([watermark, *(row[2] - delay for row in batch)])
    return used, late


def value_of(aggregate: Aggregate, found: Sequence[Any]) -> Any:
    """`found` are the values of a group in row order."""
    taken = [v for v in found if aggregate.where is None or (v is not None and v > 0)]
    real = [v for v in taken if v is not None]
    match aggregate.how:
        case "size":
            return len(taken)
        case "list":
            return taken
        case "count":
            return len(real)
        case "sum":
            return sum(real)
        case "any" | "all":
            return any(real) if aggregate.how == "any" else all(real)
        case "nunique":
            return len(set(real))
        case "std" | "var":
            return float(getattr(np, aggregate.how)(real, ddof=1)) if len(real) > 1 else None
        case how if not real:
            assert how in ("min", "max", "mean", "first", "last")
            return None
        case "mean":
            return sum(real) / len(real)
        case "first" | "last":
            return real[0 if aggregate.how == "first" else -1]
        case how:
            return {"min": min, "max": max}[how](real)


def by_hand(used: Iterable[Used], spec: Spec, aggregates: Sequence[Aggregate]) -> list[dict[str, Any]]:
    """One record per key and window that has rows; equal times keep the order in which rows came."""
    groups: defaultdict[tuple[Any, int], list[Row]] = defaultdict(list)
    for end, row in used:
        groups[row[0], end].append(row)
    return [
        {"key": key, "window_start": end - spec.size_us, "window_end": end}
        | {a.name: value_of(a, [v for _, v, _ in sorted(found, key=lambda row: row[2])]) for a in aggregates}
        for (key, end), found in groups.items()
    ]


def records(table: pa.Table) -> list[dict[str, Any]]:
    columns = [c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in table.columns]
    return pa.table(columns, names=table.column_names).to_pylist()


def assert_same(found: Iterable[dict[str, Any]], wanted: Iterable[dict[str, Any]]) -> None:
    def rounded(record: dict[str, Any]) -> str:
        return repr({k: round(v, 9) + 0.0 if isinstance(v, float) else v for k, v in sorted(record.items())})

    assert sorted(map(rounded, found)) == sorted(map(rounded, wanted))


def aggregate(child: Node, spec: Spec, aggregates: Sequence[Aggregate], keyed: bool = True) -> WindowAggregate:
    on = child.event_time or "at"
    return WindowAggregate(
        child=child, keys=("key",) if keyed else (), window=spec, on=on, aggregates=tuple(aggregates)
    )


@settings(deadline=None, max_examples=120)
@given(
    batches=st.lists(rows, min_size=1, max_size=5),
    spec=windows(),
    aggregates=some,
    delay=st.integers(0, 30),
    lanes=st.integers(1, 3),
    data=st.data(),
)
def test_lanes_and_restarts_find_what_a_direct_computation_finds(
    batches: list[list[Row]], spec: Spec, aggregates: list[Aggregate], delay: int, lanes: int, data: st.DataObject
) -> None:
    operator = aggregate(frames(*batches, delay_us=delay), spec, aggregates)
    cluster = Cluster(to_memory(out=operator, late=Late(operator=operator)), tuple("abc"[:lanes]))
    used, late = judged(batches, spec, delay)
    found: dict[str, list[pa.Table]] = {"out": [], "late": []}

    for _ in batches:
        for address in data.draw(st.sets(st.sampled_from("abc"[:lanes])), label="workers that forget everything"):
            cluster.start(address)
        for sink, table in cluster.published(cluster.batch()).items():
            found[sink].append(table)

    assert_same((record for table in found["out"] for record in records(table)), by_hand(used, spec, aggregates))
    lost = Counter(
        (*(record[name] for name in (*SCHEMA.names, "_window_end")),)
        for table in found["late"]
        for record in records(table)
    )
    assert lost == Counter((*row, end) for end, row in late)


@dataclass
class Cut:
    """Rows of which none is late, in frames."""

    batches: list[list[Row]]


@st.composite
def in_time(draw: st.DrawFn, disorder: int = 20) -> Cut:
    found: list[Row] = []
    newest = 0
    for key, value, forward in draw(st.lists(st.tuples(keys, values, st.integers(0, 30)), max_size=20)):
        newest += forward
        found.append((key, value, newest - draw(st.integers(0, disorder))))
        newest = max(newest, found[-1][2])
    bounds = sorted(draw(st.lists(st.integers(0, len(found)), max_size=4)))
    return Cut([found[a:b] for a, b in zip([0, *bounds], [*bounds, len(found)], strict=True)])


@settings(deadline=None, max_examples=40)
@given(cut=in_time(), spec=windows(), aggregates=some, keyed=st.booleans())
def test_rows_in_disorder_below_the_delay_are_all_used_for_any_cut(
    cut: Cut, spec: Spec, aggregates: list[Aggregate], keyed: bool
) -> None:
    operator = aggregate(frames(*cut.batches, delay_us=20), spec, aggregates, keyed)
    every = [row for batch in cut.batches for row in batch]

    result = compute(to_memory(out=operator, late=Late(operator=operator)))

    used = [(end, row if keyed else (0, *row[1:])) for row in every for end in ends_of(row[2], spec)]
    wanted = by_hand(used, spec, aggregates)
    assert_same(
        records(result["out"]), wanted if keyed else [{k: v for k, v in w.items() if k != "key"} for w in wanted]
    )
    assert result["late"].num_rows == 0


TOTAL = (Aggregate(name="value", column="value", how="sum"),)
OUTER = tuple(Aggregate(name=how, column="value", how=how) for how in ("size", "sum", "list", "first", "last"))


@settings(deadline=None, max_examples=50)
@given(cut=in_time(), inner=windows(), outer=windows(), by_key=st.booleans())
def test_a_window_over_a_window_takes_results_at_their_last_microsecond_in_order_of_key(
    cut: Cut, inner: Spec, outer: Spec, by_key: bool
) -> None:
    first = aggregate(frames(*cut.batches, delay_us=20), inner, TOTAL)
    second = aggregate(first, outer, OUTER, keyed=by_key)
    lanes = Cluster(to_memory(out=second, late=Late(operator=second)), ("a", "b"))
    every = [row for batch in cut.batches for row in batch]
    inside = by_hand([(end, row) for row in every for end in ends_of(row[2], inner)], inner, TOTAL)
    inside.sort(key=lambda record: (record["window_end"], record["key"] is None, (record["key"] or "").encode()))
    results = [(record["key"] if by_key else 0, record["value"], record["window_end"] - 1) for record in inside]

    found: list[dict[str, Any]] = []
    for _ in cut.batches:
        published = lanes.published(lanes.batch())
        assert "late" not in published
        found += records(published["out"]) if "out" in published else []

    wanted = by_hand([(end, row) for row in results for end in ends_of(row[2], outer)], outer, OUTER)
    assert_same(found, wanted if by_key else [{k: v for k, v in w.items() if k != "key"} for w in wanted])


def test_the_lateness_of_a_row_is_judged_window_by_window() -> None:
    spec = Sliding(size_us=30, every_us=10)
    operator = aggregate(frames([("a", 1, 40)], [("a", 2, 15)], [("a", 3, 5)], delay_us=0), spec, TOTAL)

    result = compute(to_memory(out=operator, late=Late(operator=operator)))

    late = [(value, end) for _, value, _, _, _, end in tuples(result["late"])]
    assert sorted(late) == [(2, 20), (2, 30), (2, 40), (3, 10), (3, 20), (3, 30)]
    assert [(end, value) for _, _, end, value in tuples(result["out"])] == [(50, 1), (60, 1), (70, 1)]
