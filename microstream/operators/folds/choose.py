"""The fold of an aggregate."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from microstream.errors import InternalError
from microstream.operators.folds.edges import Edge
from microstream.operators.folds.kept import Distinct, Listed
from microstream.operators.folds.protocol import Fold
from microstream.operators.folds.simple import Counted, Mean, Single, Truth
from microstream.operators.folds.spread import Spread
from microstream.plan.aggregates import Aggregate, total_type

__all__ = ["fold_of"]


def fold_of(aggregate: Aggregate, schema: pa.Schema) -> Fold:
    """How `aggregate` of rows of `schema` is kept."""
    name, how = aggregate.name, aggregate.how
    if aggregate.column is None or how == "size":
        return Counted(name=name)
    kind = schema.field(aggregate.column).type
    whole = pa.int64()
    match how:
        case "count":
            return Single(name=name, reads=kind, type=whole, result=whole, function="count", again="sum")
        case "sum":
            total = total_type(kind)
            wide = total if pa.types.is_decimal(kind) else kind
            return Single(name=name, reads=wide, type=total, result=total, function="sum", again="sum")
        case "min" | "max":
            # Arrow has no min and max of durations.
            ordered: pa.DataType = whole if pa.types.is_duration(kind) else kind
            return Single(name=name, reads=ordered, type=ordered, result=kind, function=how, again=how)
        case "mean":
            return Mean(name=name)
        case "std" | "var":
            params: dict[str, Any] = dict(aggregate.params)
            return Spread(name=name, ddof=params.get("ddof", 1), root=how == "std")
        case "any" | "all":
            return Truth(name=name, how=how)
        case "nunique":
            return Distinct(name=name, type=kind)
        case "list":
            return Listed(name=name, type=kind)
        case "first" | "last":
            return Edge(name=name, type=kind, last=how == "last")
    raise InternalError(f"no fold for aggregate {how!r}")
