"""From plans to running queries and finished results: the only door from the frame API into the runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa

from microstream.clock import duration_us
from microstream.connectors.files.listing import absolute
from microstream.connectors.memory.sink import MemorySink
from microstream.errors import PlanError
from microstream.frame.inference import recalled
from microstream.plan.dead_letters import with_dead_letters
from microstream.plan.dtypes import to_frame
from microstream.plan.explain import explain
from microstream.plan.nodes import Node, RunningAggregate, Sink, WindowAggregate
from microstream.plan.rules import children
from microstream.plan.specs import OutputMode
from microstream.plan.stages import cut
from microstream.runtime import query
from microstream.runtime.changes import checked_changes
from microstream.runtime.memory_tables import BATCH, table_schema
from microstream.runtime.trigger import Trigger, parse_trigger

__all__ = ["explain_node", "explain_sinks", "results_of", "start_sinks"]

RESULT = "result"
_ENDED: Mapping[str, str] = {"kafka": 'Read what is there now with read_kafka(..., end="latest"). '}


def start_sinks(
    sinks: tuple[Sink, ...],
    *,
    name: str | None,
    checkpoint: str | None,
    trigger: str | Trigger,
    storage_options: Mapping[str, Any] | None,
    lanes: int | None,
    client: Any,
    takeover: bool,
    on_change: Mapping[str, str] | None,
    settings: Mapping[str, Any],
) -> query.StreamingQuery:
    """Compile `sinks` into one query and start it (see `ms.start`)."""
    stages = cut(with_dead_letters(recalled(sinks, checkpoint, storage_options)))
    durable = [sink.name for sink in stages.sinks if sink.spec.durable]
    if checkpoint is None and durable:
        raise PlanError(
            f"start: sink {durable[0]!r} outlives this process, so the query needs checkpoint=, a folder or a URL such "
            "as 's3://bucket/query'. Only console, memory and null sinks do without."
        )
    for sink in stages.sinks:
        if checkpoint is not None and sink.spec.publication.lasting and absolute(checkpoint) == sink.spec.target:
            raise PlanError(
                f"start: sink {sink.name!r} writes to the folder of the checkpoint, {checkpoint}. Give it another."
            )
    if lanes is not None and (isinstance(lanes, bool) or not isinstance(lanes, int) or lanes < 1):
        raise PlanError(f"start: lanes={lanes!r} must be a whole number, at least 1.")
    return query.start_query(
        stages=stages,
        name=name or sinks[0].name,
        checkpoint=checkpoint,
        trigger=parse_trigger(trigger),
        storage_options=storage_options,
        lanes=lanes,
        client=client,
        takeover=takeover,
        on_change=checked_changes(on_change),
        settings=_chosen(settings),
    )


def results_of(nodes: tuple[Node, ...], output_mode: OutputMode | None = None) -> tuple[pd.DataFrame, ...]:
    """All rows of each of `nodes`, whose sources are finite: sorted by event time, then keys, then all columns."""
    names = [f"{RESULT}-{place}" for place in range(len(nodes))]
    stages = cut(
        tuple(
            Sink(child=node, name=name, spec=MemorySink(), mode=output_mode)
            for node, name in zip(nodes, names, strict=True)
        )
    )
    endless = [source for source in stages.sources if not source.spec.finite]
    if endless:
        raise PlanError(
            f"compute: source {endless[0].name!r} ({endless[0].spec.kind}) never ends. "
            f"{_ENDED.get(endless[0].spec.kind, '')}Start a query with frame.to_memory().start(), or try the plan on "
            "ms.from_pandas(...)."
        )
    tables = query.compute(stages)
    schemas = {sink.name: table_schema(sink) for sink in stages.sinks}
    return tuple(
        sort_result(to_frame(tables[name].cast(schemas[name])), node) for node, name in zip(nodes, names, strict=True)
    )


def explain_node(node: Node) -> str:
    """The compiled plan of `node` as text."""
    return explain_sinks((Sink(child=node, name=RESULT, spec=MemorySink()),))


def explain_sinks(sinks: tuple[Sink, ...]) -> str:
    """The compiled plan of a query of `sinks` as text."""
    return explain(cut(with_dead_letters(sinks)))


def sort_result(frame: pd.DataFrame, node: Node) -> pd.DataFrame:
    """`frame` in the order that does not depend on batches or lanes, with a new RangeIndex."""
    first = ([node.event_time] if node.event_time is not None else []) + _keys(node) + [BATCH]
    order = [name for name in dict.fromkeys([*first, *frame.columns]) if name in frame.columns]
    sorted_ = frame.sort_values(order, kind="stable", na_position="last", key=_sortable) if order else frame
    return sorted_.reset_index(drop=True)


def _keys(node: Node) -> list[str]:
    """Keys of the nearest aggregate above `node`."""
    while not isinstance(node, WindowAggregate | RunningAggregate):
        above = children(node)
        if len(above) != 1:
            return []
        node = above[0]
    return list(node.keys)


def _sortable(column: pd.Series[Any]) -> pd.Series[Any]:
    """Lists and structs have no order: they are sorted by how they read."""
    dtype = column.dtype
    nested = isinstance(dtype, pd.ArrowDtype) and pa.types.is_nested(dtype.pyarrow_dtype)
    return column.astype("str") if nested else column


def _chosen(settings: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {name: value for name, value in settings.items() if value is not None}
    for name in ("max_span", "retain"):
        if name in chosen:
            duration_us(chosen[name], argument=name)
    return chosen
