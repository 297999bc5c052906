"""Aggregates, cut into partial (per lane and batch), merge (in any order) and finish (when a row is emitted).

Partials have the key columns, `window_end` (or `pane_end`, which sliding windows share; int64 microseconds; neither
where there are no windows) and the columns that each aggregate keeps (`operators/folds`). Kernels run single-threaded:
threads would give other float sums at every run.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
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
from microstream.plan.nodes import (
    REVISION,
    Aggregate,
    RunningAggregate,
    Sliding,
    Stateful,
    Tumbling,
    WindowAggregate,
)
from microstream.plan.sameness import same_values

# Tables from other workers and from bundles lie wherever their bytes do; Arrow would warn at every aggregation.
os.environ.setdefault("ACERO_ALIGNMENT_HANDLING", "reallocate")

__all__ = [
    "END",
    "PANE",
    "changed",
    "finish",
    "merge",
    "partial",
    "partial_schema",
    "shape",
    "shrinks",
    "state_schema",
]

END: Final = "window_end"
"""Column of partials: end of the window, exclusive, int64 microseconds since 1970 UTC."""

PANE: Final = "pane_end"
"""Instead of it, in partials of sliding windows: end of the pane, which several windows share."""

SHORT: Final = {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}
SHORT_BYTES: Final = 2**31 - 1
"""What a text column with 32-bit offsets can hold."""


def partial(windowed: Windowed, node: Stateful, places: Callable[[], Places] = lambda: NOWHERE) -> pa.Table:
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
    if windowed.end_us is not None:
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
    return _as(_schema(node, _marks(node), folds), _fold(table.num_rows, by, foldings))


def merge(partials: pa.Table, node: Stateful) -> pa.Table:
    """One row per key and window (or pane), in any order.

    Associative and commutative, float sums up to rounding.
    """
    marks = _marks(node)
    if marks == (PANE,) and PANE not in partials.schema.names:
        marks = (END,)
    by = {name: partials.column(name) for name in (*node.keys, *marks)}
    folds = _folds(node)
    foldings = [fold.merge(_state(fold, partials)) for fold in folds]
    return _as(_schema(node, marks, folds), _fold(partials.num_rows, by, foldings))


def finish(merged: pa.Table, node: Stateful) -> pa.Table:
    """Rows of `node.schema` from merged partials, sorted by window, then by the key columns (null last)."""
    return _sorted(_finished(merged, node), node)


def changed(before: pa.Table, after: pa.Table, at: npt.NDArray[np.int64], node: Stateful) -> npt.NDArray[np.bool_]:
    """Which rows of `after` are new, or read otherwise than before (null equals null).

    Parameters
    ----------
    before, after
        Merged partials.
    at
        Row `at[i]` of `after` was row i of `before`; the others are new.
    """
    unchanged = np.ones(len(at), np.bool_)
    for fold in _folds(node):
        old, new = (fold.finish(_state(fold, partials)) for partials in (before, after))
        unchanged &= same_values(old, new.take(at))
    found = np.ones(after.num_rows, np.bool_)
    found[at[unchanged]] = False
    return found


def _finished(merged: pa.Table, node: Stateful) -> pa.Table:
    columns: list[Any] = [merged.column(key) for key in node.keys]
    if isinstance(node, WindowAggregate):
        ends_us = merged.column(END).to_numpy()
        columns += [pa.array(times_us.view("datetime64[us]")) for times_us in (ends_us - node.window.size_us, ends_us)]
    columns += [fold.finish(_state(fold, merged)) for fold in _folds(node)]
    if isinstance(node, WindowAggregate) and node.revises:
        columns.append(merged.column(REVISION))
    return pa.Table.from_arrays(columns, schema=node.schema)


def _sorted(table: pa.Table, node: Stateful) -> pa.Table:
    names = (*((END,) if isinstance(node, WindowAggregate) else ()), *node.keys)
    if table.num_rows < 2 or not names:
        return table
    order: list[Any] = [(name, "ascending") for name in names]
    return table.take(pc.sort_indices(table.select(names), order))


def partial_schema(node: Stateful) -> pa.Schema:
    """Schema of partials as they travel through the exchange.

    Raises
    ------
    PlanError
        A key is named like a column that an aggregate keeps, such as "avg:sum".
    """
    return _schema(node, _marks(node), _folds(node))


def state_schema(node: Stateful) -> pa.Schema:
    """Schema of partials as they lie in the checkpoint: by window where each is a row that may change.

    Raises
    ------
    PlanError
        As `partial_schema`.
    """
    exchanged = partial_schema(node)
    if isinstance(node, RunningAggregate) or (node.mode == "append" and not node.revises):
        return exchanged
    stored = _schema(node, (END,), _folds(node))
    return stored.append(pa.field(REVISION, pa.int64(), nullable=False)) if node.revises else stored


def _marks(node: Stateful) -> tuple[str, ...]:
    """What partials are grouped by besides the keys."""
    if isinstance(node, RunningAggregate):
        return ()
    return (PANE if isinstance(node.window, Sliding) else END,)


def _schema(node: Stateful, marks: Sequence[str], folds: Sequence[Fold]) -> pa.Schema:
    here = node.child.schema
    # Whether keys may be null is not part of `shape`, so stored partials must not depend on it.
    fields = [here.field(key).with_nullable(True) for key in node.keys]
    fields += [pa.field(mark, pa.int64(), nullable=False) for mark in marks]
    fields += [field for fold in folds for field in fold.fields]
    names = [column.name for column in fields]
    for name in names if len(set(names)) < len(names) else ():
        if names.count(name) > 1:
            raise PlanError(f"agg: the state keeps a column {name!r} twice. Rename the key or output of that name.")
    return pa.schema([column.remove_metadata() for column in fields])


def shrinks(node: Stateful) -> bool:
    """Whether merging partials makes them smaller; a list is as long as its parts."""
    return all(aggregate.how != "list" for aggregate in node.aggregates)


def shape(node: Stateful) -> str:
    """What must stay equal for stored partials to be of use, as canonical JSON: keys, window, aggregates.

    Also the output mode, where the state that it needs is of another form: rows that are replaced, and not added to.
    """
    here = node.child.schema
    parts: dict[str, Any] = {
        "keys": [[key, str(here.field(key).type)] for key in node.keys],
        "window": _window_shape(node),
        "aggregates": [_aggregate_shape(aggregate, here) for aggregate in node.aggregates],
    }
    if isinstance(node, WindowAggregate) and node.mode != "append":
        parts["mode"] = node.mode
    if isinstance(node, WindowAggregate) and node.revises:
        parts["revisions"] = True
    return json.dumps(parts, separators=(",", ":"))


def _window_shape(node: Stateful) -> dict[str, int | str] | None:
    if isinstance(node, RunningAggregate):
        return None
    match node.window:
        case Tumbling(size_us=size_us, offset_us=offset_us):
            return {"tumbling_us": size_us, "offset_us": offset_us, "on": node.on}
        case Sliding(size_us=size_us, every_us=every_us, offset_us=offset_us):
            return {"sliding_us": size_us, "every_us": every_us, "offset_us": offset_us, "on": node.on}


def _aggregate_shape(aggregate: Aggregate, schema: pa.Schema) -> list[Any]:
    kind = None if aggregate.column is None else str(schema.field(aggregate.column).type)
    where = [] if aggregate.where is None else [f"where={aggregate.where}"]
    params = [[name, value] for name, value in aggregate.params]
    return [aggregate.name, aggregate.how, aggregate.column, kind, *where, *params]


def _folds(node: Stateful) -> tuple[Fold, ...]:
    return tuple(fold_of(aggregate, node.child.schema) for aggregate in node.aggregates)


def _state(fold: Fold, partials: pa.Table) -> list[Column]:
    return [partials.column(field.name) for field in fold.fields]


def _mask(aggregate: Aggregate, windowed: Windowed, node: Stateful) -> pa.Array[Any] | None:
    """Rows that count, by `where=`."""
    if aggregate.where is None:
        return None
    truth = pa.field("where", pa.bool_())
    mask: Any = guarded(node, windowed.rows, functools.partial(evaluate, aggregate.where, field=truth))
    filled: Any = mask.fill_null(False)
    return filled.combine_chunks() if isinstance(filled, pa.ChunkedArray) else filled


def _fold(rows: int, by: Mapping[str, Any], foldings: Sequence[Folding]) -> list[Any]:
    """Columns of `by` and of each folding's state, one row per group, by one pass of Arrow over the rows."""
    # Arrow does not make lists without a key.
    groups_by = by or {"\0all": pa.array(np.zeros(rows, np.int8))}
    columns = {name: _short(key) for name, key in groups_by.items()}
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
        columns["\0row"] = pa.array(np.arange(rows))
        folds.append(("\0row", "list"))
    table = pa.Table.from_arrays(list(columns.values()), names=list(columns))
    answers = table.group_by(list(groups_by), use_threads=False).aggregate(folds).columns
    groups: Any = Groups.of(answers[-1]) if by_group else None
    at = len(groups_by)
    found = list(answers[: len(by)])
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
