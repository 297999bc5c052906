"""Windowed aggregates, cut into partial (per lane and batch), merge (in any order) and finish (at closing).

Partials have the key columns, `window_end` (or `pane_end` of sliding windows, until they close; int64 microseconds)
and the columns that each aggregate keeps (`operators/folds`). Kernels run single-threaded: threads would give other
float sums at every run.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microstream.errors import PlanError
from microstream.operators.failure import guarded
from microstream.operators.folds.choose import fold_of
from microstream.operators.folds.protocol import Column, Fold, Folding, Groups, Values
from microstream.operators.nulls import float_rules
from microstream.operators.order import NOWHERE, Places
from microstream.operators.window import Windowed
from microstream.plan.expr import evaluate
from microstream.plan.nodes import Aggregate, Sliding, Tumbling, WindowAggregate

# Tables from other workers and from bundles lie wherever their bytes do; Arrow would warn at every aggregation.
os.environ.setdefault("ACERO_ALIGNMENT_HANDLING", "reallocate")

__all__ = ["END", "PANE", "finish", "merge", "partial", "partial_schema", "shape", "shrinks"]

END: Final = "window_end"
"""Column of partials: end of the window, exclusive, int64 microseconds since 1970 UTC."""

PANE: Final = "pane_end"
"""Instead of it, in partials of sliding windows: end of the pane, which several windows share."""

SHORT: Final = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
SHORT_BYTES: Final = 2**31 - 1
"""What a text column with 32-bit offsets can hold."""


def partial(windowed: Windowed, node: WindowAggregate, places: Callable[[], Places] = lambda: NOWHERE) -> pa.Table:
    """One row per key and window among the rows of a lane and batch.

    NaN counts as null, in values and in keys, and -0.0 as 0.0. Null keys are a group of their own.

    Parameters
    ----------
    windowed
        Rows in time.
    node
        The aggregation.
    places
        Where the rows that entered the stage stand in the row order, asked for only by aggregates that need it.

    Raises
    ------
    UserFunctionFailed
        A `where=` raised, or gave something else than true and false.
    """
    table, folds = windowed.table, _folds(node)
    by: dict[str, Any] = {f"key{at}": float_rules(table.column(k)) for at, k in enumerate(node.keys)}
    by["end"] = pa.array(windowed.end_us)
    read = {aggregate.column for aggregate in node.aggregates if aggregate.column is not None}
    values = {name: float_rules(table.column(name)) for name in read}
    order = functools.cache(lambda: places().of_rows(windowed.rows.origin, windowed.at_us))
    foldings = [
        fold.update(
            Values(
                column=None if aggregate.column is None else values[aggregate.column],
                where=_mask(aggregate, windowed, node),
                order=order,
            )
        )
        for aggregate, fold in zip(node.aggregates, folds, strict=True)
    ]
    return _as(_schema(node, _end(node), folds), _fold(by, foldings))


def merge(partials: pa.Table, node: WindowAggregate) -> pa.Table:
    """One row per key and window (or pane), in no order; associative and commutative, float sums up to rounding."""
    end = END if END in partials.schema.names else PANE
    by = {name: partials.column(name) for name in (*node.keys, end)}
    folds = _folds(node)
    foldings = [fold.merge(_state(fold, partials)) for fold in folds]
    return _as(_schema(node, end, folds), _fold(by, foldings))


def finish(merged: pa.Table, node: WindowAggregate) -> pa.Table:
    """Rows of `node.schema` from merged partials, sorted by window, then by the key columns (null last)."""
    ends_us = merged.column(END).to_numpy()
    columns: list[Any] = [merged.column(key) for key in node.keys]
    columns += [pa.array(times_us.view("datetime64[us]")) for times_us in (ends_us - node.window.size_us, ends_us)]
    columns += [fold.finish(_state(fold, merged)) for fold in _folds(node)]
    table = pa.Table.from_arrays(columns, schema=node.schema)
    if table.num_rows == 1:
        return table
    order: list[Any] = [("window_end", "ascending"), *((key, "ascending") for key in node.keys)]
    return table.take(pc.sort_indices(table.select([name for name, _ in order]), order))


def partial_schema(node: WindowAggregate) -> pa.Schema:
    """Schema of partials: what travels through the exchange and lies in the checkpoint.

    Raises
    ------
    PlanError
        A key is named like a column that an aggregate keeps, such as "avg:sum".
    """
    return _schema(node, _end(node), _folds(node))


def _end(node: WindowAggregate) -> str:
    return PANE if isinstance(node.window, Sliding) else END


def _schema(node: WindowAggregate, end: str, folds: Sequence[Fold]) -> pa.Schema:
    here = node.child.schema
    # Whether keys may be null is not part of `shape`, so stored partials must not depend on it.
    fields = [here.field(key).with_nullable(True) for key in node.keys]
    fields.append(pa.field(end, pa.int64(), nullable=False))
    fields += [field for fold in folds for field in fold.fields]
    names = [column.name for column in fields]
    for name in names if len(set(names)) < len(names) else ():
        if names.count(name) > 1:
            raise PlanError(f"agg: the state keeps a column {name!r} twice. Rename the key or output of that name.")
    return pa.schema([column.remove_metadata() for column in fields])


def shrinks(node: WindowAggregate) -> bool:
    """Whether merging partials makes them smaller; a list is as long as its parts."""
    return all(aggregate.how != "list" for aggregate in node.aggregates)


def shape(node: WindowAggregate) -> str:
    """What must stay equal for stored partials to be of use, as canonical JSON: keys, window, aggregates."""
    here = node.child.schema
    return json.dumps(
        {
            "keys": [[key, str(here.field(key).type)] for key in node.keys],
            "window": {**_window_shape(node), "on": node.on},
            "aggregates": [_aggregate_shape(aggregate, here) for aggregate in node.aggregates],
        },
        separators=(",", ":"),
    )


def _window_shape(node: WindowAggregate) -> dict[str, int]:
    match node.window:
        case Tumbling(size_us=size_us, offset_us=offset_us):
            return {"tumbling_us": size_us, "offset_us": offset_us}
        case Sliding(size_us=size_us, every_us=every_us, offset_us=offset_us):
            return {"sliding_us": size_us, "every_us": every_us, "offset_us": offset_us}


def _aggregate_shape(aggregate: Aggregate, schema: pa.Schema) -> list[Any]:
    kind = None if aggregate.column is None else str(schema.field(aggregate.column).type)
    where = [] if aggregate.where is None else [f"where={aggregate.where}"]
    params = [[name, value] for name, value in aggregate.params]
    return [aggregate.name, aggregate.how, aggregate.column, kind, *where, *params]


def _folds(node: WindowAggregate) -> tuple[Fold, ...]:
    return tuple(fold_of(aggregate, node.child.schema) for aggregate in node.aggregates)


def _state(fold: Fold, partials: pa.Table) -> list[Column]:
    return [partials.column(field.name) for field in fold.fields]


def _mask(aggregate: Aggregate, windowed: Windowed, node: WindowAggregate) -> pa.Array[Any] | None:
    """Rows that count, by `where=`."""
    if aggregate.where is None:
        return None
    truth = pa.field("where", pa.bool_())
    mask: Any = guarded(node, windowed.rows, functools.partial(evaluate, aggregate.where, field=truth))
    filled: Any = mask.fill_null(False)
    return filled.combine_chunks() if isinstance(filled, pa.ChunkedArray) else filled


def _fold(by: Mapping[str, Any], foldings: Sequence[Folding]) -> list[Any]:
    """Columns of `by` and of each folding's state, one row per group, by one pass of Arrow over the rows."""
    columns = {name: _short(key) for name, key in by.items()}
    folds: list[Any] = []
    for ask in (ask for folding in foldings for ask in folding.asks):
        if ask.column is None:
            folds.append(([], ask.function))
            continue
        # No column of a table that a user names begins like that.
        name = f"\0{len(folds)}"
        columns[name] = ask.column
        folds.append((name, ask.function) if ask.options is None else (name, ask.function, ask.options))
    by_group = any(folding.by_group for folding in foldings)
    if by_group:
        first: Any = next(iter(by.values()))
        columns["\0row"] = pa.array(np.arange(len(first)))
        folds.append(("\0row", "list"))
    table = pa.Table.from_arrays(list(columns.values()), names=list(columns))
    answers = table.group_by(list(by), use_threads=False).aggregate(folds).columns
    groups: Any = Groups.of(answers[-1]) if by_group else None
    at = len(by)
    found = list(answers[:at])
    for folding in foldings:
        mine = answers[at : at + len(folding.asks)]
        at += len(folding.asks)
        found += mine if folding.collect is None else folding.collect(mine, groups)
    return found


def _short(key: Any) -> Any:
    """Text with 32-bit offsets, which `_as` undoes: Arrow groups it about ten times as fast as `large_string`."""
    kind = SHORT.get(key.type)
    return key if kind is None or key.nbytes > SHORT_BYTES else key.cast(kind)


def _as(schema: pa.Schema, columns: Sequence[Any]) -> pa.Table:
    """`columns` by position; an unsigned sum becomes int64 by wrapping."""
    cast = [
        column if column.type == wanted.type else column.cast(wanted.type, safe=False)
        for column, wanted in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(cast, schema=schema)
