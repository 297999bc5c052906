"""Stateless operators: rows in, rows out. Arrow carries them; pandas appears only around user functions.

None stands for "no rows" everywhere, and a user function is never called without rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa

from microstream.errors import InternalError
from microstream.operators.exploding import explode
from microstream.operators.failure import UserFunctionFailed, guarded
from microstream.operators.per_row import map_rows
from microstream.operators.rows import Rows, concat_rows
from microstream.plan.dtypes import WrongColumnsError, to_array, to_frame, to_table
from microstream.plan.expr import evaluate
from microstream.plan.nodes import Assign, Concat, Explode, Filter, MapBatches, MapRows, Node, Project, Watermark

__all__ = ["Instances", "apply", "instantiate"]

Instances: TypeAlias = Mapping[type, Callable[..., Any]]
"""One instance of every class that the plan gives to `map_batches` or `map_rows`."""


def instantiate(nodes: Iterable[Node]) -> Instances:
    """Call every class among the functions of `nodes`, once each: here models load and connections open.

    Raises
    ------
    UserFunctionFailed
        The class raised.
    """
    instances: dict[type, Callable[..., Any]] = {}
    for node in nodes:
        if not isinstance(node, MapBatches | MapRows) or not isinstance(node.fn, type) or node.fn in instances:
            continue
        try:
            instances[node.fn] = node.fn()
        except Exception as cause:
            raise UserFunctionFailed(node, cause, None, None) from cause
    return instances


def apply(node: Node, inputs: tuple[Rows | None, ...], instances: Instances) -> Rows | None:
    """Rows of `node` from the rows of its children.

    Parameters
    ----------
    node
        Filter, Project, Assign, Explode, MapBatches, MapRows, Watermark or Concat.
    inputs
        One per child; None for no rows.
    instances
        From `instantiate`.

    Raises
    ------
    UserFunctionFailed
        An expression or function of the user raised, or returned something else than declared.
    """
    filled = [rows for rows in inputs if rows is not None and len(rows)]
    if not filled:
        return None
    match node:
        case Concat():
            out = concat_rows(filled, node.schema)
        case Filter():
            out = _filter(node, filled[0])
        case Project():
            out = _project(node, filled[0])
        case Assign():
            out = _assign(node, filled[0])
        case Explode():
            out = explode(node, filled[0])
        case MapBatches():
            out = _map_batches(node, filled[0], instances)
        case MapRows():
            out = map_rows(node, filled[0], instances[node.fn] if isinstance(node.fn, type) else node.fn)
        case Watermark():
            out = filled[0].carry(guarded(node, filled[0], partial(_timed, node)))
        case _:
            raise InternalError(f"{type(node).__name__} is not a stateless operator")
    return out if len(out) else None


def _filter(node: Filter, rows: Rows) -> Rows:
    truth = pa.field("filter", pa.bool_())
    mask: Any = guarded(node, rows, partial(evaluate, node.predicate, field=truth))
    return rows.keep(mask.fill_null(False).to_numpy(zero_copy_only=False))


def _project(node: Project, rows: Rows) -> Rows:
    columns = [
        guarded(node, rows, partial(evaluate, expr, field=field))
        for expr, field in zip(node.exprs, node.schema, strict=True)
    ]
    return rows.carry(pa.Table.from_arrays(columns, schema=node.schema))


def _assign(node: Assign, rows: Rows) -> Rows:
    field = pa.field(node.name, node.dtype, nullable=node.nullable)
    column = guarded(node, rows, partial(evaluate, node.expr, field=field))
    at = rows.table.schema.get_field_index(node.name)
    if at < 0:
        return rows.carry(rows.table.append_column(field, column))
    return rows.carry(rows.table.set_column(at, field, column))


def _map_batches(node: MapBatches, rows: Rows, instances: Instances) -> Rows:
    fn = instances[node.fn] if isinstance(node.fn, type) else node.fn
    return Rows(table=guarded(node, rows, partial(_called, node, fn)), origin=None)


def _called(node: MapBatches, fn: Callable[..., Any], table: pa.Table) -> pa.Table:
    result = fn(to_frame(table) if node.batch_format == "pandas" else table)
    out = _declared(node, result)
    if node.event_time is not None and (lost := out.column(node.event_time).null_count):
        raise ValueError(
            f"{node.name}: event time {node.event_time!r} is null in {lost} of {out.num_rows} rows. Return a "
            "time for every row, or leave the column out of schema=."
        )
    return out


def _timed(node: Watermark, table: pa.Table) -> pa.Table:
    if lost := table.column(node.column).null_count:
        raise ValueError(
            f"event time {node.column!r} is null in {lost} of {table.num_rows} rows. Drop those rows before, as in "
            f"dropna(subset={node.column!r}).with_watermark({node.column!r}, ...)."
        )
    return table.cast(node.schema)


def _declared(node: MapBatches, result: object) -> pa.Table:
    """What a function returned, as exactly `node.schema`."""
    if not isinstance(result, pd.DataFrame | pa.Table):
        raise WrongColumnsError(
            f"{node.name}: returned {type(result).__name__}. Return a pandas DataFrame or an Arrow table."
        )
    columns = result.columns if isinstance(result, pd.DataFrame) else result.column_names
    names = [str(name) for name in columns]
    if sorted(names) != sorted(node.schema.names):
        missing = [name for name in node.schema.names if name not in names]
        extra = [name for name in names if name not in node.schema.names or names.count(name) > 1]
        raise WrongColumnsError(
            f"{node.name}: returned wrong columns (missing: {', '.join(missing) or 'none'}; "
            f"not declared: {', '.join(extra) or 'none'}). Expected exactly: {', '.join(node.schema.names)}."
        )
    if isinstance(result, pd.DataFrame):
        return to_table(result, node.schema, node.name)
    arrays = [to_array(result.column(field.name), field, node.name) for field in node.schema]
    return pa.Table.from_arrays(arrays, schema=node.schema)
