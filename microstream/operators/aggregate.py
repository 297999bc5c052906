"""Windowed aggregates, cut into partial (per lane and batch), merge (in any order) and finish (at closing).

Partials have the key columns, `window_end` (int64 microseconds) and one or two columns per aggregate. Kernels
run single-threaded: threads would give other float sums at every run.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from microstream.errors import PlanError
from microstream.operators.window import Windowed
from microstream.plan.nodes import TIME, Aggregate, WindowAggregate

# Tables from other workers and from bundles lie wherever their bytes do; Arrow would warn at every aggregation.
os.environ.setdefault("ACERO_ALIGNMENT_HANDLING", "reallocate")

__all__ = ["END", "finish", "merge", "partial", "partial_schema", "shape"]

END: Final = "window_end"
"""Column of partials: end of the window, exclusive, int64 microseconds since 1970 UTC."""

_SUM_OF_NOTHING_IS_ZERO = pc.ScalarAggregateOptions(min_count=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One column of partials: `update` folds input `column`, cast to `reads`; `merge` folds partials."""

    name: str
    type: pa.DataType
    column: str | None
    reads: pa.DataType | None
    update: str
    merge: str


def partial(windowed: Windowed, node: WindowAggregate) -> pa.Table:
    """One row per key and window among the rows of a lane and batch.

    NaN counts as null, in values and in keys, and -0.0 as 0.0. Null keys are a group of their own.
    """
    table = windowed.table
    columns: dict[str, Any] = {f"key{at}": _float_rules(table.column(k)) for at, k in enumerate(node.keys)}
    columns["end"] = pa.array(windowed.end_us)
    by = list(columns)
    parts = _parts(node)
    read = {part.column for part in parts if part.column is not None}
    values = {name: _float_rules(table.column(name)) for name in read}
    folds: list[tuple[Any, ...]] = []
    for at, part in enumerate(parts):
        if part.column is None:
            folds.append(([], "count_all"))
        else:
            columns[f"value{at}"] = values[part.column].cast(part.reads, safe=False)
            folds.append(_fold(f"value{at}", part.update))
    grouped = pa.table(columns).group_by(by, use_threads=False).aggregate(folds)
    return _as(partial_schema(node), grouped)


def merge(partials: pa.Table, node: WindowAggregate) -> pa.Table:
    """One row per key and window; associative and commutative, float sums up to rounding.

    Rows come in order of first appearance: partials sorted by `window_end` stay sorted.
    """
    folds = [_fold(part.name, part.merge) for part in _parts(node)]
    grouped = partials.group_by([*node.keys, END], use_threads=False).aggregate(folds)
    return _as(partial_schema(node), grouped)


def finish(merged: pa.Table, node: WindowAggregate) -> pa.Table:
    """Rows of `node.schema` from merged partials, sorted by window, then by the key columns (null last)."""
    end = merged.column(END)
    columns = [merged.column(key) for key in node.keys]
    columns += [pc.subtract(end, node.window.size_us).cast(TIME), end.cast(TIME)]
    columns += [_result(aggregate, merged, node) for aggregate in node.aggregates]
    table = pa.Table.from_arrays(columns, schema=node.schema)
    order: list[Any] = [("window_end", "ascending"), *((key, "ascending") for key in node.keys)]
    return table.take(pc.sort_indices(table, order))


def partial_schema(node: WindowAggregate) -> pa.Schema:
    """Schema of partials: what travels through the exchange and lies in the checkpoint.

    Raises
    ------
    PlanError
        A key is named like a column that an aggregate keeps, such as "avg:sum".
    """
    here = node.child.schema
    # Whether keys may be null is not part of `shape`, so stored partials must not depend on it.
    fields = [here.field(key).with_nullable(True) for key in node.keys]
    fields.append(pa.field(END, pa.int64(), nullable=False))
    fields += [pa.field(part.name, part.type) for part in _parts(node)]
    names = [column.name for column in fields]
    for name in names:
        if names.count(name) > 1:
            raise PlanError(f"agg: the state keeps a column {name!r}, which is also a key. Rename the key.")
    return pa.schema([column.remove_metadata() for column in fields])


def shape(node: WindowAggregate) -> str:
    """What must stay equal for stored partials to be of use, as canonical JSON: keys, window, aggregates."""
    here = node.child.schema
    return json.dumps(
        {
            "keys": [[key, str(here.field(key).type)] for key in node.keys],
            "window": {"tumbling_us": node.window.size_us, "offset_us": node.window.offset_us, "on": node.on},
            "aggregates": [
                [a.name, a.how, a.column, None if a.column is None else str(here.field(a.column).type)]
                for a in node.aggregates
            ],
        },
        separators=(",", ":"),
    )


def _parts(node: WindowAggregate) -> tuple[_Part, ...]:
    return tuple(part for aggregate in node.aggregates for part in _parts_of(aggregate, node))


def _parts_of(aggregate: Aggregate, node: WindowAggregate) -> tuple[_Part, ...]:
    name, column, whole = aggregate.name, aggregate.column, pa.int64()
    if column is None:
        return (_Part(name=name, type=whole, column=None, reads=None, update="count_all", merge="sum"),)
    kind = node.child.schema.field(column).type
    match aggregate.how:
        case "size":
            return (_Part(name=name, type=whole, column=None, reads=None, update="count_all", merge="sum"),)
        case "count":
            return (_Part(name=name, type=whole, column=column, reads=kind, update="count", merge="sum"),)
        case "sum":
            total = pa.float64() if pa.types.is_floating(kind) else whole
            return (_Part(name=name, type=total, column=column, reads=kind, update="sum", merge="sum"),)
        case "mean":
            # A float sum, as in pandas: an int64 one would wrap after six timestamps in nanoseconds.
            real = pa.float64()
            return (
                _Part(name=f"{name}:sum", type=real, column=column, reads=real, update="sum", merge="sum"),
                _Part(name=f"{name}:count", type=whole, column=column, reads=kind, update="count", merge="sum"),
            )
        case how:
            # Arrow has no min and max of durations.
            ordered = whole if pa.types.is_duration(kind) else kind
            return (_Part(name=name, type=ordered, column=column, reads=ordered, update=how, merge=how),)


def _fold(column: str, function: str) -> tuple[Any, ...]:
    return (column, function, _SUM_OF_NOTHING_IS_ZERO) if function == "sum" else (column, function)


def _as(schema: pa.Schema, grouped: pa.Table) -> pa.Table:
    """`grouped` by position; an unsigned sum becomes int64 by wrapping."""
    columns = [column.cast(wanted.type, safe=False) for column, wanted in zip(grouped.columns, schema, strict=True)]
    return pa.Table.from_arrays(columns, schema=schema)


def _result(aggregate: Aggregate, merged: pa.Table, node: WindowAggregate) -> pa.ChunkedArray[Any]:
    wanted = node.schema.field(aggregate.name).type
    if aggregate.how == "mean":
        # 0 / 0 is NaN, which is null: the mean of nothing.
        count = merged.column(f"{aggregate.name}:count").cast(pa.float64())
        return _float_rules(pc.divide(merged.column(f"{aggregate.name}:sum"), count))
    return _float_rules(merged.column(aggregate.name)).cast(wanted)


def _float_rules(column: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    """Null for NaN and one zero (adding 0.0 makes 0.0 of -0.0): Arrow groups by bits, pandas by value."""
    if not pa.types.is_floating(column.type):
        return column
    zero: Any = pa.scalar(0.0, column.type)
    values: pa.ChunkedArray[Any] = pc.add(column, zero)
    not_a_number = pc.is_nan(values)
    if not pc.any(not_a_number).as_py():
        return values
    without: pa.ChunkedArray[Any] = pc.if_else(not_a_number, pa.scalar(None, column.type), values)
    return without
