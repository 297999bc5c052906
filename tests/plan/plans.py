"""Small plans over one memory source."""

from __future__ import annotations

import pyarrow as pa

from microstream.connectors.memory.sink import MemorySink
from microstream.connectors.memory.source import MemorySource
from microstream.plan.expr import Call, Column, Literal
from microstream.plan.nodes import TIME, Aggregate, Filter, Node, Sink, Source, Tumbling, WindowAggregate

SCHEMA = pa.schema(
    [
        pa.field("auction", pa.int64(), nullable=False),
        pa.field("price", pa.float64()),
        pa.field("ts", TIME, nullable=False),
        pa.field("note", pa.large_string()),
    ]
)


def memory() -> MemorySource:
    return MemorySource(tables=(SCHEMA.empty_table(),))


FRAMES = memory()


def source(name: str = "bids") -> Source:
    return Source(name=name, spec=FRAMES, schema=SCHEMA, event_time="ts", delay_us=10_000_000)


def filtered(child: Node) -> Filter:
    return Filter(child=child, predicate=Call("gt", (Column("price"), Literal(100))))


def aggregate(child: Node, id_: str = "", key: str = "auction", column: str = "auction") -> WindowAggregate:
    return WindowAggregate(
        child=child,
        keys=(key,),
        window=Tumbling(size_us=60_000_000),
        on=child.event_time or "",
        aggregates=(Aggregate(name="n", column=column, how="size"),),
        id=id_,
    )


def sink(child: Node, name: str = "out") -> Sink:
    return Sink(child=child, name=name, spec=MemorySink())
