"""Nodes as text: one line each, the same in every process (no memory addresses)."""

from __future__ import annotations

from microstream.plan.expr import callable_name
from microstream.plan.nodes import (
    Assign,
    BadRecords,
    Concat,
    Explode,
    Filter,
    Late,
    MapBatches,
    MapRows,
    Node,
    Project,
    RunningAggregate,
    Sink,
    Sliding,
    Source,
    Stateful,
    Tumbling,
    Watermark,
    WindowAggregate,
)
from microstream.plan.rules import children, in_order

__all__ = ["canonical_text", "describe", "duration", "schema_text"]


def duration(microseconds: int) -> str:
    """A duration as people write it.

    >>> duration(90_000_000), duration(3_600_000_000), duration(0)
    ('90s', '1h', '0s')
    """
    for unit, size in (("D", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000)):
        if microseconds and microseconds % size == 0:
            return f"{microseconds // size}{unit}"
    if microseconds % 1_000:
        return f"{microseconds}us"
    return f"{microseconds // 1_000}ms" if microseconds else "0s"


def schema_text(node: Node) -> str:
    """Columns and types of `node`, in one line."""
    return ", ".join(f"{f.name}: {f.type}{'' if f.nullable else ' not null'}" for f in node.schema)


def describe(node: Node) -> str:
    """`node` in one line, without its children."""
    match node:
        case Source(name=name, spec=spec, event_time=column, delay_us=delay):
            time = f", event time {column} up to {duration(delay)} late" if column else ", no event time"
            time = f", event time {column} is that of its batch" if node.takes_batch_time else time
            return f"source {name}: {spec.kind} {spec.target}{time}"
        case Filter(predicate=predicate):
            return f"filter {predicate}"
        case Project(exprs=exprs, schema=schema):
            pairs = zip(schema.names, map(str, exprs), strict=True)
            return f"select {', '.join(name if name == e else f'{name} = {e}' for name, e in pairs)}"
        case Assign(name=name, expr=expr):
            return f"assign {name} = {expr}"
        case Explode(columns=names):
            return f"explode {', '.join(names)}"
        case MapBatches(fn=fn, batch_format=batch_format):
            return f"map_batches {callable_name(fn)} on {batch_format}"
        case MapRows(fn=fn):
            return f"map_rows {callable_name(fn)}"
        case Watermark(column=column, delay_us=delay):
            return f"event time {column} up to {duration(delay)} late"
        case Concat(children=several):
            return f"concat of {len(several)}"
        case WindowAggregate(id=id_, keys=keys, window=window, aggregates=aggregates):
            named = f" {id_}" if id_ else ""
            shown = ", ".join(map(str, aggregates))
            by = f" by {', '.join(keys)}" if keys else ""
            return f"aggregate{named}{by} in {_window(window)}{_lateness(node)}{_mode(node)}: {shown}"
        case RunningAggregate(id=id_, keys=keys, aggregates=aggregates):
            named = f" {id_}" if id_ else ""
            by = f" by {', '.join(keys)}" if keys else ""
            return f"running aggregate{named}{by}{_mode(node)}: {', '.join(map(str, aggregates))}"
        case Late():
            return "late rows"
        case BadRecords(child=source):
            return f"bad records of {source.name}"


def canonical_text(sinks: tuple[Sink, ...]) -> str:
    """The plan of `sinks`: one line per node, children by number.

    Functions are named, not shown: other code under the same name is the same plan.
    """
    nodes = in_order(tuple(sink.child for sink in sinks))
    number = {id(node): at for at, node in enumerate(nodes)}
    lines = [
        f"{at}: {describe(node)} of {[number[id(child)] for child in children(node)]}"
        f" -> {schema_text(node)}; event time {node.event_time}"
        for at, node in enumerate(nodes)
    ]
    lines += [
        f"sink {sink.name}: {sink.spec.kind} {sink.spec.target} {sink.spec.format} of {number[id(sink.child)]}"
        for sink in sinks
    ]
    return "\n".join(lines)


def _mode(node: Stateful) -> str:
    """What is said of an output mode; plans that append read as they always did."""
    return "" if node.mode == "append" else f", {node.mode}"


def _lateness(node: WindowAggregate) -> str:
    return f" and {duration(node.lateness_us)} more" if node.lateness_us else ""


def _window(window: Tumbling | Sliding) -> str:
    offset = f", offset={duration(window.offset_us)}" if window.offset_us else ""
    if isinstance(window, Sliding):
        return f"sliding({duration(window.size_us)}, every={duration(window.every_us)}{offset})"
    return f"tumbling({duration(window.size_us)}{offset})"
