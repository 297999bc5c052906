"""Types of what user code returns: learnt when the plan is written, by running it on a typed sample of two rows.

As Dask's `_meta_nonempty`: functions are called on the client, with their side effects.
"""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

from microstream.errors import PlanError
from microstream.plan.dtypes import TIME, WrongColumnsError, canonical_schema, schema_of, to_frame
from microstream.plan.expr import Column, Expr, callable_name, columns_of, field_of
from microstream.plan.row_dicts import dicts_of, schema_of_dicts

__all__ = ["BatchFormat", "infer_batches", "infer_column", "infer_rows", "sample"]

BatchFormat = Literal["pandas", "arrow"]


def sample(schema: pa.Schema, *, nulls: bool = False) -> pa.Table:
    """Two rows of `schema` without nulls; with `nulls`, the second is null wherever it may be.

    Text reads as a number and as a date, so that conversions of it work.

    >>> sample(pa.schema({"n": pa.int64(), "s": pa.large_string()})).to_pylist()
    [{'n': 1, 's': '2000'}, {'n': 2, 's': '2001'}]
    """
    columns = []
    for field in schema:
        first, second = _examples(field.type)
        columns.append(pa.array([first, None if nulls and field.nullable else second], type=field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def infer_column(expr: Expr, schema: pa.Schema, name: str, where: str) -> pa.Field[Any]:
    """The column `name` that `expr` gives on rows of `schema`.

    Raises
    ------
    PlanError
        `expr` names a column that is not there, fails on the sample, or gives values without a type.
    """
    needed = columns_of(expr)
    for column in sorted(needed or ()):
        if column not in schema.names:
            raise PlanError.unknown_column(where, column, schema.names)
    if isinstance(expr, Column):
        return schema.field(expr.name).with_name(name).remove_metadata()
    inputs = schema if needed is None else pa.schema([f for f in schema if f.name in needed])

    def run(rows: pa.Table) -> pa.Schema:
        return pa.schema([field_of(expr, rows, name)])

    return _inferred(run, inputs, f"{where}: {name} = {expr}", "Convert it with .astype(), or compute").field(0)


def infer_batches(fn: Callable[..., Any], schema: pa.Schema, batch_format: BatchFormat, where: str) -> pa.Schema:
    """The schema of what `fn` (a function, or a class to instantiate) returns for batches of `schema`.

    Raises
    ------
    PlanError
        `fn` fails on the sample, or returns columns without a type, or no frame.
    """

    def run(rows: pa.Table) -> pa.Schema:
        call = fn() if isinstance(fn, type) else fn
        result = call(to_frame(rows) if batch_format == "pandas" else rows)
        if isinstance(result, pa.Table):
            return canonical_schema(result.schema)
        if not isinstance(result, pd.DataFrame):
            raise WrongColumnsError(f"returned {type(result).__name__}, not a frame or an Arrow table")
        return schema_of(result, where)

    return _inferred(run, schema, f"{where}({callable_name(fn)})", "Give schema=, or compute")


def infer_rows(fn: Callable[..., Any], schema: pa.Schema, where: str) -> pa.Schema:
    """The schema of the dicts that `fn` (a function, or a class to instantiate) returns for rows of `schema`.

    Raises
    ------
    PlanError
        `fn` fails on the sample, or returns no row or a value without a type for it.
    """

    def run(rows: pa.Table) -> pa.Schema:
        call = fn() if isinstance(fn, type) else fn
        made = [row for given in rows.to_pylist() for row in dicts_of(call(given), where)]
        if not made:
            raise WrongColumnsError("it gives no row for them")
        return schema_of_dicts(made)

    return _inferred(run, schema, f"{where}({callable_name(fn)})", "Give schema=, or compute")


def _inferred(run: Callable[[pa.Table], pa.Schema], schema: pa.Schema, where: str, advice: str) -> pa.Schema:
    try:
        found = run(sample(schema))
    except PlanError:
        raise
    except Exception as problem:
        raise PlanError(
            f"{where} failed on a sample of two rows ({type(problem).__name__}: {problem}), so its type is not known. "
            f"{advice} it in map_batches(fn, schema={{...}})."
        ) from problem
    never_null = any(not field.nullable for field in found)
    return _with_nulls(run, found, schema) if never_null and any(f.nullable for f in schema) else found


def _with_nulls(run: Callable[[pa.Table], pa.Schema], found: pa.Schema, schema: pa.Schema) -> pa.Schema:
    """`found`, where columns become nullable that turn to floats or objects when the input holds nulls."""
    try:
        beside = run(sample(schema, nulls=True))
    except Exception:  # noqa: BLE001 - the function cannot handle nulls: its user says that there are none
        return found
    if beside.names != found.names:
        return found
    return pa.schema([a.with_nullable(a.nullable or b.nullable) for a, b in zip(found, beside, strict=True)])


def _examples(kind: pa.DataType) -> tuple[Any, Any]:
    inner: Any = kind
    if pa.types.is_boolean(kind):
        return True, False
    if pa.types.is_integer(kind):
        return 1, 2
    if pa.types.is_floating(kind):
        return 1.0, 2.0
    if pa.types.is_decimal(kind):
        return decimal.Decimal(1), decimal.Decimal(2)
    if pa.types.is_large_string(kind):
        return "2000", "2001"
    if pa.types.is_large_binary(kind):
        return b"2000", b"2001"
    if kind == TIME:
        return datetime.datetime(2000, 1, 1), datetime.datetime(2000, 1, 2)
    if pa.types.is_date(kind):
        return datetime.date(2000, 1, 1), datetime.date(2000, 1, 2)
    if pa.types.is_duration(kind):
        return datetime.timedelta(seconds=1), datetime.timedelta(seconds=2)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        both = list(_examples(inner.value_type))
        return both, both
    if pa.types.is_struct(kind):
        fields = [inner.field(at) for at in range(inner.num_fields)]
        first, second = ({f.name: _examples(f.type)[at] for f in fields} for at in (0, 1))
        return first, second
    return None, None
