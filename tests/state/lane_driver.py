"""A small driver: late filter, partials, exchange, lanes, bundles, manifest edits, rescales, reloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial as bind
from typing import Any

import pyarrow as pa

from microstream.checkpoint.bundle import Bundle
from microstream.checkpoint.manifest import Run
from microstream.checkpoint.memory import MemoryStore
from microstream.clock import BEGINNING_US, END_US
from microstream.operators.aggregate import finish, merge, partial, partial_schema
from microstream.operators.rows import Rows
from microstream.operators.window import split_late
from microstream.plan.nodes import TIME, Aggregate, Source, Tumbling, WindowAggregate
from microstream.state.lane import LaneRun, Step, WindowState, step
from microstream.state.lanes import lane_ranges, lane_starts, rescale, split
from microstream.state.loading import load

SCHEMA = pa.schema([("word", pa.large_string()), ("real", pa.float64()), ("value", pa.int64()), ("at", TIME)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Where test rows come from."""

    kind: str = "events"
    target: str = "events"
    finite: bool = True


NODE = WindowAggregate(
    child=Source(name="events", spec=Events(), schema=SCHEMA, event_time="at"),
    keys=("word", "real"),
    window=Tumbling(size_us=10, offset_us=3),
    on="at",
    aggregates=(
        Aggregate(name="n", column=None, how="size"),
        Aggregate(name="filled", column="value", how="count"),
        Aggregate(name="total", column="value", how="sum"),
        Aggregate(name="least", column="value", how="min"),
        Aggregate(name="most", column="value", how="max"),
        Aggregate(name="average", column="value", how="mean"),
    ),
)


def table_of(rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """Rows (word, real, value, at)."""
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def delta_of(rows: Sequence[tuple[Any, ...]], node: WindowAggregate = NODE) -> pa.Table:
    """Partials of `rows`, none of which is late."""
    windowed, _ = split_late(
        Rows(table=table_of(rows), origin=None), node, "op", watermark_us=BEGINNING_US, closed_before_us=BEGINNING_US
    )
    return partial_schema(node).empty_table() if windowed is None else partial(windowed, node)


@dataclass
class Driver:
    """`lanes` lanes of `NODE`, with a manifest's list of runs and a store."""

    lanes: int = 1
    bits: int = 64
    watermark_us: int = BEGINNING_US
    runs: tuple[Run, ...] = ()
    store: MemoryStore = field(default_factory=MemoryStore)
    states: list[WindowState] = field(default_factory=list)
    results: list[tuple[Any, ...]] = field(default_factory=list)
    late_rows: int = 0
    batch: int = 0

    def __post_init__(self) -> None:
        self.states = [WindowState(lo=lo, closed_before_us=BEGINNING_US) for lo in lane_starts(self.lanes)]

    def run(self, rows: Sequence[tuple[Any, ...]], watermark_us: int) -> list[Step]:
        """One batch: `rows` are read by as many source lanes, `watermark_us` is W(N)."""
        starts = lane_starts(self.lanes)
        elements = [self._source(rows[lane :: self.lanes], starts) for lane in range(self.lanes)]
        steps = []
        for lane in range(self.lanes):
            delta = pa.concat_tables([element[lane] for element in reversed(elements)])
            steps.append(self._state(lane, delta, watermark_us))
        self.watermark_us = watermark_us
        self.batch += 1
        return steps

    def finish(self) -> list[tuple[Any, ...]]:
        """The last batch of finite input; all results, sorted."""
        self.run([], END_US)
        return sorted(self.results, key=repr)

    def reload(self, lanes: int) -> None:
        """Forget everything in memory and start again, with other lanes, from the list of runs."""
        self.lanes = lanes
        self.runs = rescale(self.runs, lane_starts(lanes))
        ranges = lane_ranges(lane_starts(lanes))
        self.states = [self.loaded(lo, hi) for lo, hi in ranges]

    def loaded(self, lo: int, hi: int) -> WindowState:
        """The state of one lane from the store."""
        how: Mapping[str, Any] = {"keys": NODE.keys, "schema": partial_schema(NODE), "bits": self.bits}
        return load(self.runs, self.store, lo=lo, hi=hi, closed_before_us=self.watermark_us, **how)

    def _source(self, rows: Sequence[tuple[Any, ...]], starts: tuple[int, ...]) -> tuple[pa.Table, ...]:
        windowed, late = split_late(
            Rows(table=table_of(rows), origin=None),
            NODE,
            "aggregate-0",
            watermark_us=self.watermark_us,
            closed_before_us=self.watermark_us,
        )
        self.late_rows += 0 if late is None else len(late)
        if windowed is None:
            return (partial_schema(NODE).empty_table(),) * len(starts)
        return split(partial(windowed, NODE), NODE.keys, starts, bits=self.bits)

    def _state(self, lane: int, delta: pa.Table, watermark_us: int) -> Step:
        done = step(
            self.states[lane],
            delta,
            watermark_us=watermark_us,
            batch=self.batch,
            merge=bind(merge, node=NODE),
        )
        self.states[lane] = done.state
        if done.closed is not None:
            self.results += [tuple(row.values()) for row in finish(done.closed, NODE).to_pylist()]
        kept = [run for run in self.runs if (run.batch, run.lo) not in done.dropped]
        self.runs = (*kept, *(() if done.added is None else (self._store(lane, done.added),)))
        return done

    def _store(self, lane: int, added: LaneRun) -> Run:
        bundle = Bundle()
        bundle.add(added.table)
        name = f"data/00000001/{self.batch:016x}-d-{lane}.arrow"
        data, (segment,) = bundle.seal(name)
        self.store.put(name, data)
        lo, hi = lane_ranges(lane_starts(self.lanes))[lane]
        ends = {"min_end_us": added.min_end_us, "max_end_us": added.max_end_us}
        return Run(segment=segment, batch=added.batch, level=added.level, lo=lo, hi=hi, **ends)
