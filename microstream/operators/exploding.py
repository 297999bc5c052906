"""Lists to rows: elements of one list column, or of several side by side, by Arrow kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microstream.operators.failure import UserFunctionFailed
from microstream.operators.rows import Positions, Rows
from microstream.plan.nodes import Explode

__all__ = ["explode"]


def explode(node: Explode, rows: Rows) -> Rows:
    """One row per element; what has no element counts as one null, as in pandas.

    Raises
    ------
    UserFunctionFailed
        The lists of a row differ in length.
    """
    lists: dict[str, Any] = {name: rows.table.column(name).combine_chunks() for name in node.columns}
    lengths = {name: _lengths(column) for name, column in lists.items()}
    repeats = _repeats(node, rows, lengths)
    positions = np.repeat(np.arange(len(rows)), repeats)
    # The lists themselves are not taken: repeated, they would be many times the rows.
    columns: list[Any] = [
        _elements(lists[name], lengths[name], repeats) if name in lists else rows.table.column(name).take(positions)
        for name in rows.table.column_names
    ]
    table = pa.Table.from_arrays(columns, schema=node.schema)
    return Rows(table=table, origin=None if rows.origin is None else rows.origin[positions])


def _lengths(lists: Any) -> Positions:
    return pc.list_value_length(lists).fill_null(0).to_numpy().astype(np.int64)  # type: ignore[no-any-return]


def _repeats(node: Explode, rows: Rows, lengths: Mapping[str, Positions]) -> Positions:
    """How many rows each row becomes."""
    first, *others = (np.maximum(found, 1) for found in lengths.values())
    for other in others:
        if len(unlike := np.flatnonzero(other != first)):
            row = int(unlike[0])
            found = ", ".join(f"{name!r} has {length[row]}" for name, length in lengths.items())
            problem = ValueError(
                f"the lists of a row must have one length to stand side by side, but {found} elements. Make them "
                "alike, or explode one after the other for all combinations"
            )
            raise UserFunctionFailed(node, problem, row, rows.origin_of(row))
    return first


def _elements(lists: Any, lengths: Positions, repeats: Positions) -> Any:
    elements = lists.flatten()
    if lengths.all():
        return elements
    filled = np.repeat(lengths > 0, repeats)
    return elements.take(pa.array(np.cumsum(filled) - 1, mask=~filled))
