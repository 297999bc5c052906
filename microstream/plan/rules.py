"""Rewrites of a plan: functions from node to node, and the walk that applies them.

A plan is a graph, not a tree: a node that two others read is one object, and stays one through every rewrite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from microstream.errors import InternalError, PlanError
from microstream.plan.expr import Column, Expr, columns_of
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
    Source,
    Watermark,
    WindowAggregate,
)

__all__ = [
    "children",
    "drop_noop_project",
    "in_order",
    "name_sources",
    "optimise",
    "prune_columns",
    "rewrite",
    "with_children",
]

Rule = Callable[[Node], Node]


def children(node: Node) -> tuple[Node, ...]:
    """The nodes that `node` reads."""
    match node:
        case Source():
            return ()
        case Concat(children=several):
            return several
        case Late(operator=operator):
            return (operator,)
        case _:
            return (node.child,)


def with_children(node: Node, new: tuple[Node, ...]) -> Node:
    """`node` over other children; itself, if they are the same."""
    if all(a is b for a, b in zip(children(node), new, strict=True)):
        return node
    match node:
        case Source():
            return node
        case Concat():
            return replace(node, children=new)
        case Late():
            (operator,) = new
            if not isinstance(operator, WindowAggregate):
                raise InternalError("the operator of late rows was rewritten into something else.")
            return replace(node, operator=operator)
        case BadRecords():
            (source,) = new
            if not isinstance(source, Source):
                raise InternalError("the source of bad records was rewritten into something else.")
            return replace(node, child=source)
        case _:
            return replace(node, child=new[0])


def in_order(roots: tuple[Node, ...]) -> tuple[Node, ...]:
    """Every node above `roots` once, children first."""
    found: dict[int, Node] = {}

    def visit(node: Node) -> None:
        if id(node) not in found:
            for child in children(node):
                visit(child)
            found[id(node)] = node

    for root in roots:
        visit(root)
    return tuple(found.values())


def rewrite(sinks: tuple[Sink, ...], rule: Rule) -> tuple[Sink, ...]:
    """Apply `rule` to every node once, children first."""
    done: dict[int, Node] = {}
    for node in in_order(tuple(sink.child for sink in sinks)):
        above = tuple(done[id(child)] for child in children(node))
        done[id(node)] = rule(with_children(node, above))
    return tuple(replace(sink, child=done[id(sink.child)]) for sink in sinks)


def optimise(sinks: tuple[Sink, ...]) -> tuple[Sink, ...]:
    """The same rows with less work: sources decode only columns that are used, and steps without effect are gone."""
    return rewrite(prune_columns(rewrite(sinks, drop_noop_project)), drop_noop_project)


def drop_noop_project(node: Node) -> Node:
    """Project(x) -> x, where it keeps all columns in their order."""
    match node:
        case Project(child=child, exprs=exprs, schema=schema) if (
            exprs == tuple(Column(name) for name in child.schema.names)
            and schema.equals(child.schema)
            and node.event_time == child.event_time
        ):
            return child
        case _:
            return node


def name_sources(sinks: tuple[Sink, ...]) -> tuple[Sink, ...]:
    """Give "kind-ordinal" to sources without a name; one name, one source.

    Raises
    ------
    PlanError
        Two different sources have one name.
    """
    named: dict[str, Source] = {}
    unnamed: dict[str, int] = {}

    def rule(node: Node) -> Node:
        if not isinstance(node, Source):
            return node
        if not node.name:
            ordinal = unnamed.get(node.spec.kind, 0)
            unnamed[node.spec.kind] = ordinal + 1
            node = replace(node, name=f"{node.spec.kind}-{ordinal}")
        known = named.setdefault(node.name, node)
        if known is not node and known != node:
            raise PlanError(
                f"two sources are named {node.name!r} ({known.spec.target} and {node.spec.target}), but differ. "
                "Read the source once and use the frame twice, or give one of them another name=."
            )
        return known

    return rewrite(sinks, rule)


def prune_columns(sinks: tuple[Sink, ...]) -> tuple[Sink, ...]:
    """Drop columns that nothing reads, up to the sources: those then need not decode them."""
    nodes = in_order(tuple(sink.child for sink in sinks))
    needed: dict[int, set[str]] = {id(node): set() for node in nodes}
    for sink in sinks:
        needed[id(sink.child)].update(sink.child.schema.names)
    for node in reversed(nodes):
        if node.event_time is not None:
            needed[id(node)].add(node.event_time)
        for child, columns in _read(node, needed[id(node)]):
            needed[id(child)].update(columns)
    return _pruned(sinks, nodes, needed)


def _read(node: Node, wanted: set[str]) -> tuple[tuple[Node, set[str]], ...]:
    """Columns of each child that `node` reads to give the columns `wanted`."""
    match node:
        case Source():
            return ()
        case Filter(child=child, predicate=predicate):
            return ((child, wanted | _used(predicate, child)),)
        case Project(child=child, exprs=exprs, schema=schema):
            kept = [e for e, name in zip(exprs, schema.names, strict=True) if name in wanted]
            return ((child, set().union(*(_used(expr, child) for expr in kept))),)
        case Assign(child=child, expr=expr):
            below = wanted & set(child.schema.names)
            return ((child, below if _is_dead(node, wanted) else below | _used(expr, child)),)
        case Explode(child=child, columns=columns):
            return ((child, wanted | set(columns)),)
        case Watermark(child=child, column=column):
            return ((child, wanted | {column}),)
        case MapBatches(child=child) | MapRows(child=child):
            return ((child, set(child.schema.names)),)
        case Concat(children=several):
            return tuple((child, set(wanted)) for child in several)
        case WindowAggregate(child=child) | RunningAggregate(child=child):
            # The order of rows goes by event time, also where there is no window.
            read = {*node.keys, *(a.column for a in node.aggregates if a.column is not None)}
            read.update(() if child.event_time is None else (child.event_time,))
            return ((child, read.union(*(_used(a.where, child) for a in node.aggregates if a.where is not None))),)
        case BadRecords(child=child):
            return ((child, set()),)
        case Late(operator=operator):
            # Late rows are whole rows of the operator's input.
            return ((operator, set()), (operator.child, set(operator.child.schema.names)))


def _pruned(sinks: tuple[Sink, ...], nodes: tuple[Node, ...], needed: Mapping[int, set[str]]) -> tuple[Sink, ...]:
    done: dict[int, Node] = {}
    for node in nodes:
        above = tuple(done[id(child)] for child in children(node))
        wanted = needed[id(node)]
        match node:
            case Source(schema=schema, read_schema=readable):
                # A table without columns would not know how many rows it has.
                read = wanted if wanted & set(readable.names) else wanted | {readable.names[0]}
                kept = pa.schema([field for field in schema if field.name in read])
                new: Node = node if len(kept) == len(schema) else replace(node, schema=kept)
            case Project(exprs=exprs, schema=schema):
                pairs = [(e, f) for e, f in zip(exprs, schema, strict=True) if f.name in wanted]
                fewer: Any = {"exprs": tuple(e for e, _ in pairs), "schema": pa.schema([f for _, f in pairs])}
                same = len(pairs) == len(exprs)
                new = with_children(node, above) if same else replace(node, child=above[0], **fewer)
            case Assign() if _is_dead(node, wanted):
                new = above[0]
            case Concat():
                names = [name for name in node.schema.names if name in wanted]
                new = with_children(node, tuple(_select(child, names) for child in above))
            case _:
                new = with_children(node, above)
        done[id(node)] = new
    return tuple(replace(sink, child=done[id(sink.child)]) for sink in sinks)


def _is_dead(node: Assign, wanted: set[str]) -> bool:
    """Whether nothing reads what `node` adds; one that replaces a column stays, for event time may end there."""
    return node.name not in wanted and node.name not in node.child.schema.names


def _select(node: Node, names: list[str]) -> Node:
    """`node` with exactly the columns `names`."""
    if node.schema.names == names:
        return node
    return Project(
        child=node,
        exprs=tuple(Column(name) for name in names),
        schema=pa.schema([node.schema.field(name) for name in names]),
        event_time=node.event_time if node.event_time in names else None,
    )


def _used(expr: Expr, child: Node) -> set[str]:
    columns = columns_of(expr)
    return set(child.schema.names) if columns is None else set(columns)
