"""Bound columns: `frame["x"]` means x as it was in that frame."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from microstream.errors import PlanError
from microstream.plan.expr import Column
from microstream.plan.nodes import Assign, Explode, Filter, Node, Project, Watermark

__all__ = ["Binding", "check_bindings"]


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """Column `column` of the rows of `node`."""

    node: Node
    column: str


def check_bindings(bindings: Iterable[Binding], node: Node, where: str) -> None:
    """Raise PlanError unless every bound column is the same in rows of `node`."""
    for binding in bindings:
        if not _unchanged(node, binding):
            raise PlanError(
                f"{where}: frame[{binding.column!r}] belongs to another frame, or the column was changed since. To use "
                f"the column of this frame write ms.col({binding.column!r}).",
                column=binding.column,
            )


def _unchanged(node: Node, binding: Binding) -> bool:
    """Whether `node` has the bound column, untouched by the row-wise steps since."""
    while node is not binding.node:
        match node:
            case Filter(child=child) | Watermark(child=child):
                node = child
            case Assign(child=child, name=name) if name != binding.column:
                node = child
            case Explode(child=child, columns=names) if binding.column not in names:
                node = child
            case Project(child=child, exprs=exprs, schema=schema):
                at = schema.get_field_index(binding.column)
                if at < 0 or exprs[at] != Column(binding.column):
                    return False
                node = child
            case _:
                return False
    return True
