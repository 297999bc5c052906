"""`map_rows`: a function of the user on one row after the other, as dicts.

The only loop over rows there is. It costs some microseconds per row beside what the function itself takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from microstream.operators.failure import UserFunctionFailed, guarded
from microstream.operators.rows import Rows
from microstream.plan.dtypes import WrongColumnsError
from microstream.plan.nodes import MapRows
from microstream.plan.row_dicts import dicts_of, table_of

__all__ = ["map_rows"]


def map_rows(node: MapRows, rows: Rows, fn: Callable[[dict[str, Any]], Any]) -> Rows:
    """What `fn` makes of each row, in order; every row keeps the origin of the one it was made of.

    Raises
    ------
    UserFunctionFailed
        `fn` raised, or returned something else than declared.
    """
    made: list[Mapping[str, Any]] = []
    source: list[int] = []
    for at, row in enumerate(rows.table.to_pylist()):
        try:
            found = dicts_of(fn(row), node.name)
            _check_names(found, node)
        except Exception as cause:
            raise UserFunctionFailed(node, cause, at, rows.origin_of(at)) from cause
        made += found
        source += [at] * len(found)
    origins = None if rows.origin is None else rows.origin[np.array(source, np.int64)]
    positions = Rows(table=pa.table({"at": pa.array(range(len(made)), pa.int64())}), origin=origins)
    return positions.carry(guarded(node, positions, partial(_typed, made, node)))


def _typed(made: list[Mapping[str, Any]], node: MapRows, positions: pa.Table) -> pa.Table:
    """The rows at `positions`, so that the first that does not fit can be found."""
    return table_of([made[at] for at in positions.column("at").to_numpy().tolist()], node.schema, node.name)


def _check_names(found: Iterable[Mapping[str, Any]], node: MapRows) -> None:
    wanted = set(node.schema.names)
    for row in found:
        if row.keys() == wanted:
            continue
        missing = [name for name in node.schema.names if name not in row]
        extra = [str(name) for name in row if name not in wanted]
        raise WrongColumnsError(
            f"{node.name}: returned wrong columns (missing: {', '.join(missing) or 'none'}; not declared: "
            f"{', '.join(extra) or 'none'}). Expected exactly: {', '.join(node.schema.names)}."
        )
