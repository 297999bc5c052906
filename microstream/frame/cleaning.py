"""What `dropna`, `fillna` and `astype` of a frame mean column by column."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import pyarrow as pa

from microstream.errors import PlanError
from microstream.frame.columns import Column, col
from microstream.plan.dtypes import dtype_of, parse_schema
from microstream.plan.infer import infer_column

__all__ = ["filled", "present", "retyped"]


def present(columns: Sequence[Column], how: str, thresh: int | None) -> Any:
    """Whether a row has values in `columns`, as `pandas.DataFrame.dropna` judges it."""
    there = [column.notna() for column in columns]
    if not there:
        raise PlanError("dropna: subset= names no column.")
    if thresh is not None:
        if how != "any":
            raise PlanError("dropna: give how= or thresh=, not both.")
        return reduce(lambda a, b: a + b, (column.astype("int64") for column in there)) >= thresh
    if how not in ("any", "all"):
        raise PlanError(f"dropna(how={how!r}): must be 'any' or 'all'.")
    return reduce(lambda a, b: a & b if how == "any" else a | b, there)


def filled(value: Any, schema: pa.Schema) -> Mapping[str, Any]:
    """New columns for those whose nulls `value` fills; a column that is never null stays."""
    named = value if isinstance(value, Mapping) else {field.name: value for field in schema}
    new = {name: _filled(name, named[name]) for name in schema.names if name in named and schema.field(name).nullable}
    for name, column in new.items():
        kind = schema.field(name).type
        advice = f"Give one that does, or name the columns to fill, as in fillna({{{name!r}: ...}})."
        try:
            found = infer_column(column._expr, schema, name, "fillna")
        except PlanError as problem:
            raise PlanError(
                f"fillna: {named[name]!r} does not fit column {name!r} of type {kind}. {advice}"
            ) from problem
        if found.type != kind:
            raise PlanError(f"fillna: {named[name]!r} would make column {name!r} {found.type}, not {kind}. {advice}")
    return new


def retyped(dtype: Any, schema: pa.Schema) -> Mapping[str, Any]:
    """New columns for those whose type changes."""
    named = dtype if isinstance(dtype, Mapping) else dict.fromkeys(schema.names, dtype)
    wanted = parse_schema(dict(named))
    changed = [f for f in wanted if dtype_of(f) != dtype_of(schema.field(f.name))]
    return {field.name: col(field.name).astype(named[field.name]) for field in changed}


def _filled(name: str, value: Any) -> Column:
    if callable(value) and not isinstance(value, Column):
        raise PlanError(f"fillna({{{name!r}: ...}}): give a plain value or a column, or use assign({name}=...).")
    fill: Callable[[Any], Column] = col(name).fillna
    return fill(value)
