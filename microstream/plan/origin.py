"""Which column of a stateful operator a column further down is."""

from __future__ import annotations

from microstream.plan.expr import Column, Expr
from microstream.plan.nodes import (
    Assign,
    Concat,
    Explode,
    Filter,
    Node,
    Project,
    Stateful,
    Watermark,
    last_operators,
)

__all__ = ["origin_of"]


def origin_of(column: str, node: Node, operator: Stateful) -> str | None:
    """The column of `operator` whose values `column` of `node` holds unchanged; None if it is computed, or unknown."""
    if node is operator:
        return column
    match node:
        case Project(child=child, exprs=exprs, schema=schema):
            return _of_expression(exprs[schema.names.index(column)], child, operator)
        case Assign(child=child, name=name, expr=expr) if name == column:
            return _of_expression(expr, child, operator)
        case Explode(columns=columns) if column in columns:
            return None
        case Assign(child=child) | Filter(child=child) | Explode(child=child) | Watermark(child=child):
            return origin_of(column, child, operator)
        case Concat(children=children):
            ways = [child for child in children if any(other is operator for other in last_operators(child))]
            found = {origin_of(column, child, operator) for child in ways}
            return found.pop() if len(found) == 1 else None
        case _:
            return None


def _of_expression(expr: Expr, child: Node, operator: Stateful) -> str | None:
    return origin_of(expr.name, child, operator) if isinstance(expr, Column) else None
