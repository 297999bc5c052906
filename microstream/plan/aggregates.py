"""What an aggregate is in a plan: its name, what it reads, and the type it gives by pandas' rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

import pyarrow as pa

from microstream.errors import PlanError
from microstream.plan.expr import Expr

__all__ = ["HOWS", "PARAMS", "Aggregate", "How", "aggregate_field", "total_type"]

How: TypeAlias = Literal[
    "count", "size", "sum", "min", "max", "mean", "std", "var", "any", "all", "first", "last", "list", "nunique"
]
HOWS: Final[tuple[str, ...]] = get_args(How)

PARAMS: Final[Mapping[str, tuple[str, ...]]] = {"std": ("ddof",), "var": ("ddof",)}
"""What may be given besides a column: whole numbers, at least 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """Output column `name` = `how` over `column`, of the rows for which `where` is true (null counts as false).

    `column` is None only for how="size". `params` are sorted by name.
    """

    name: str
    column: str | None
    how: str
    where: Expr | None = None
    params: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        more = "".join(f", {name}={value!r}" for name, value in self.params)
        condition = "" if self.where is None else f", where={self.where}"
        return f"{self.name} = {self.how}({self.column or ''}{more}{condition})"


def aggregate_field(aggregate: Aggregate, schema: pa.Schema) -> pa.Field[Any]:
    """Column that `aggregate` gives of rows of `schema`: counts are never null, sums of ints stay int64.

    Raises
    ------
    PlanError
        There is no such aggregate, column or parameter, or it is not defined for the type of the column.
    """
    name, how = aggregate.name, aggregate.how
    if how not in HOWS:
        raise PlanError(f"agg: there is no aggregate {how!r}. There are: {', '.join(HOWS)}.")
    _check_params(aggregate)
    if aggregate.column is None:
        if how != "size":
            raise PlanError(f"agg: {name!r} = {how} needs a column.")
        return pa.field(name, pa.int64(), nullable=False)
    if aggregate.column not in schema.names:
        raise PlanError.unknown_column("agg", aggregate.column, schema.names)
    source = schema.field(aggregate.column)
    kind = source.type
    match how:
        case "count" | "size":
            return pa.field(name, pa.int64(), nullable=False)
        case "sum":
            _need(_is_number(kind) or pa.types.is_decimal(kind), aggregate, kind, "numbers")
            return pa.field(name, total_type(kind), nullable=pa.types.is_floating(kind))
        case "mean" | "std" | "var":
            _need(_is_number(kind) or pa.types.is_decimal(kind), aggregate, kind, "numbers")
            return pa.field(name, pa.float64())
        case "any" | "all":
            _need(_is_number(kind), aggregate, kind, "numbers or true and false")
            return pa.field(name, pa.bool_(), nullable=False)
        case "nunique":
            _need(not pa.types.is_nested(kind), aggregate, kind, "plain values")
            return pa.field(name, pa.int64(), nullable=False)
        case "list":
            return pa.field(name, pa.list_(kind))
        case "min" | "max":
            _need(not pa.types.is_nested(kind), aggregate, kind, "plain values")
    # Where no row may be left, there is no smallest, first or last.
    return pa.field(name, kind, nullable=source.nullable or aggregate.where is not None)


def _check_params(aggregate: Aggregate) -> None:
    known = PARAMS.get(aggregate.how, ())
    for name, value in aggregate.params:
        if name not in known:
            those = f"It takes: {', '.join(known)}." if known else "It takes none."
            raise PlanError(f"agg: {aggregate.how} has no parameter {name!r}. {those}")
        if type(value) is not int or value < 0:
            raise PlanError(f"agg: {name}={value!r} of {aggregate.name!r} must be a whole number, at least 0.")


def _need(fits: bool, aggregate: Aggregate, kind: pa.DataType, what: str) -> None:
    if not fits:
        raise PlanError(f"agg: {aggregate.how} of {aggregate.column!r} needs {what}, but it has type {kind}.")


def total_type(kind: pa.DataType) -> pa.DataType:
    """Type of sums of `kind`, as in pandas: whole numbers wrap at 64 bits, decimals keep their scale."""
    if pa.types.is_floating(kind):
        return pa.float64()
    if pa.types.is_decimal(kind):
        return pa.decimal128(38, kind.scale)
    return pa.uint64() if pa.types.is_unsigned_integer(kind) else pa.int64()


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
