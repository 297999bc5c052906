"""Small plans over frames in memory, and the checkpoints that they start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from microstream.checkpoint.manifest import Manifest, PartitionState, Status
from microstream.clock import BEGINNING_US
from microstream.connectors.memory.sink import MemorySink
from microstream.connectors.memory.source import PARTITION, MemorySource
from microstream.plan.nodes import TIME, Aggregate, Node, Sink, Source, Tumbling, WindowAggregate
from microstream.plan.processing_time import PROCESSING_TIME, with_processing_time
from microstream.plan.stages import Stages, cut
from microstream.runtime.recovery import first_manifest

SCHEMA = pa.schema([("key", pa.large_string()), ("value", pa.int64()), ("at", TIME)])

Row = tuple[str | None, int | None, int]

ALL = (
    Aggregate(name="n", column=None, how="size"),
    Aggregate(name="filled", column="value", how="count"),
    Aggregate(name="total", column="value", how="sum"),
    Aggregate(name="least", column="value", how="min"),
    Aggregate(name="most", column="value", how="max"),
    Aggregate(name="average", column="value", how="mean"),
)


def table(rows: Sequence[Row]) -> pa.Table:
    """Rows (key, value, event time in microseconds)."""
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)


def frames(*batches: Sequence[Row], name: str = "rows", delay_us: int = 0) -> Source:
    """A source of one frame per batch."""
    return Source(
        name=name,
        spec=MemorySource(tables=tuple(map(table, batches))),
        schema=SCHEMA,
        event_time="at",
        delay_us=delay_us,
    )


def clocked(*batches: Sequence[Row], name: str = "rows") -> Source:
    """As `frames`, but the event time of a row is that of its batch."""
    by_its_own = frames(*batches, name=name)
    return replace(by_its_own, schema=with_processing_time(SCHEMA), event_time=PROCESSING_TIME)


def totals(child: Node, *, size_us: int = 10, id: str = "", aggregates: Sequence[Aggregate] = ALL) -> WindowAggregate:
    """Per key and window."""
    return WindowAggregate(
        child=child,
        keys=("key",),
        window=Tumbling(size_us=size_us),
        on=child.event_time or "at",
        aggregates=tuple(aggregates),
        id=id,
    )


def to_memory(**children: Node) -> Stages:
    """One memory sink per keyword."""
    return cut(tuple(Sink(child=child, name=name, spec=MemorySink()) for name, child in children.items()))


def started(stages: Stages, *, lanes: int = 1, **offsets: int) -> Manifest:
    """The first manifest of a query over memory sources, at `offsets[source]` or 0."""
    return first_manifest(
        stages,
        job="job",
        commit_id="commit-0",
        epoch=1,
        owner="here",
        url="memory://checkpoint",
        lanes=lanes,
        starts={s.name: ({PARTITION: offsets.get(s.name, 0)}, {}) for s in stages.sources},
        now_us=1_000,
    )


def line(
    partition: str,
    next_offset: int = 0,
    max_event_time_us: int = BEGINNING_US,
    status: Status = Status.NEVER_SEEN,
) -> PartitionState:
    """One line of a ledger."""
    return PartitionState(
        partition=partition, next_offset=next_offset, max_event_time_us=max_event_time_us, status=status
    )


def tuples(result: pa.Table) -> list[tuple[Any, ...]]:
    """Rows in any order, times as microseconds."""
    columns = [c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in result.columns]
    return sorted(zip(*(c.to_pylist() for c in columns), strict=True), key=repr)
