"""A plan over other schemas of its sources: what was inferred from them is inferred again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa

from microstream.plan.infer import infer_batches, infer_column
from microstream.plan.nodes import Assign, MapBatches, Node, Project, Sink, Source
from microstream.plan.processing_time import with_processing_time
from microstream.plan.rules import children, in_order, with_children

__all__ = ["with_schemas"]


def with_schemas(sinks: tuple[Sink, ...], schemas: Mapping[str, pa.Schema]) -> tuple[Sink, ...]:
    """`sinks` as they would be had the sources named in `schemas` read those.

    Raises
    ------
    PlanError
        The plan reads a column that is not there, or does with one what its type does not allow.
    """
    done: dict[int, Node] = {}
    for node in in_order(tuple(sink.child for sink in sinks)):
        above = tuple(done[id(child)] for child in children(node))
        done[id(node)] = _retyped(node, with_children(node, above), schemas)
    return tuple(replace(sink, child=done[id(sink.child)]) for sink in sinks)


def _retyped(before: Node, node: Node, schemas: Mapping[str, pa.Schema]) -> Node:
    if isinstance(node, Source):
        read = schemas.get(node.name)
        if read is None:
            return node
        return replace(node, schema=with_processing_time(read) if node.takes_batch_time else read, inferred=read)
    if node is before:
        return node
    match node:
        case Project(child=child, exprs=exprs, schema=schema):
            pairs = zip(exprs, schema.names, strict=True)
            return replace(node, schema=pa.schema([infer_column(e, child.schema, n, "select") for e, n in pairs]))
        case Assign(child=child, name=name, expr=expr):
            field = infer_column(expr, child.schema, name, "assign")
            return replace(node, dtype=field.type, nullable=field.nullable)
        case MapBatches(child=child, fn=fn, batch_format=batch_format, name=name) if isinstance(before, MapBatches):
            # A schema that was declared stays; one that was inferred is what inference says.
            found = infer_batches(fn, before.child.schema, batch_format, name)
            if not found.equals(before.schema):
                return node
            return replace(node, schema=infer_batches(fn, child.schema, batch_format, name))
        case _:
            return node
