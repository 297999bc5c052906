"""Failing user functions: which row it was, found by running the function on fewer and fewer rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pyarrow as pa

from microstream.errors import InternalError
from microstream.operators.rows import Rows
from microstream.plan.nodes import Node

__all__ = ["UserFunctionFailed", "guarded"]

T = TypeVar("T")


class UserFunctionFailed(Exception):
    """A function of the query failed at `node`; the worker adds operator, batch, lane and offset.

    Attributes
    ----------
    node
        Where in the plan.
    cause
        What the function raised, or what is wrong with what it returned.
    row
        First row of the node's input that fails by itself; None if none does.
    origin
        Position of that row in the stage's input (`Rows.origin`); None where it is not known.
    """

    def __init__(self, node: Node, cause: Exception, row: int | None, origin: int | None) -> None:
        super().__init__(f"{type(node).__name__}: {cause!r}")
        self.node = node
        self.cause = cause
        self.row = row
        self.origin = origin


def guarded(node: Node, rows: Rows, compute: Callable[[pa.Table], T]) -> T:
    """`compute(rows.table)`; what it raises becomes a `UserFunctionFailed` that knows the first bad row.

    To find it, `compute` runs again on halves of the rows: about the work of one more batch or two, and
    the side effects of a user function happen again.
    """
    try:
        return compute(rows.table)
    except InternalError:
        raise
    except Exception as cause:
        row = _first_failing_row(rows.table, compute)
        raise UserFunctionFailed(node, cause, row, rows.origin_of(row)) from cause


def _first_failing_row(table: pa.Table, compute: Callable[[pa.Table], object]) -> int | None:
    """Bisect; None if both halves of a failing table pass: the function looks across rows or at a clock."""
    first, end = 0, table.num_rows
    while end - first > 1:
        middle = (first + end) // 2
        if _fails(table.slice(first, middle - first), compute):
            end = middle
        elif _fails(table.slice(middle, end - middle), compute):
            first = middle
        else:
            return None
    return first


def _fails(table: pa.Table, compute: Callable[[pa.Table], object]) -> bool:
    try:
        compute(table)
    except Exception:  # noqa: BLE001 - user code may raise anything, and that it does is the answer
        return True
    return False
