"""Arrow kernels for the operators that run on every row of every batch, where they agree with pandas to the bit.

`apply` answers None for everything else, and pandas does it. The law that both give the same is a test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from microstream.plan.dtypes import ArrowColumn

__all__ = ["Vector", "apply"]

_COMPARE = {
    "eq": pc.equal,
    "ne": pc.not_equal,
    "lt": pc.less,
    "le": pc.less_equal,
    "gt": pc.greater,
    "ge": pc.greater_equal,
}
_ARITHMETIC = {"add": pc.add, "sub": pc.subtract, "mul": pc.multiply}
_LOGIC = {"and": pc.and_kleene, "or": pc.or_kleene}
_COMPARABLE = ("int64", "Int64", "float64", "str", "datetime64[us]")
EXACT_FLOAT = 2**53


@dataclass(frozen=True, slots=True)
class Vector:
    """A column on its way through an expression: Arrow values, and the pandas dtype they stand for."""

    array: ArrowColumn
    dtype: str


def apply(name: str, args: Sequence[Any]) -> Vector | None:
    """Operator `name` of `args` (vectors and plain values), or None where pandas must do it.

    A NaN that arises is null, as everywhere between operators.
    """
    if name in ("isna", "notna") and len(args) == 1 and isinstance(args[0], Vector):
        kernel: Any = pc.is_null if name == "isna" else pc.is_valid
        return Vector(kernel(args[0].array), "bool")
    if name == "invert" and isinstance(args[0], Vector) and args[0].dtype in ("bool", "boolean"):
        return Vector(pc.invert(args[0].array), args[0].dtype)
    if len(args) != 2 or name not in (*_COMPARE, *_ARITHMETIC, *_LOGIC, "truediv"):
        return None
    left, right = args
    if name in _LOGIC:
        return _logic(name, left, right)
    matched = _match(left, right)
    if matched is None:
        return None
    a, b, dtype = matched
    if name in _COMPARE:
        return _compare(name, a, b, dtype)
    return _arithmetic(name, a, b, dtype)


def _logic(name: str, left: Any, right: Any) -> Vector | None:
    if not (isinstance(left, Vector) and isinstance(right, Vector)):
        return None
    kinds = {left.dtype, right.dtype}
    if not kinds <= {"bool", "boolean"}:
        return None
    dtype = "boolean" if "boolean" in kinds else "bool"
    return Vector(_LOGIC[name](left.array, right.array), dtype)


def _match(left: Any, right: Any) -> tuple[Any, Any, str] | None:
    """Both sides as Arrow values of one type, which no conversion has changed; at least one is a column."""
    if isinstance(left, Vector) and isinstance(right, Vector):
        return (left.array, right.array, left.dtype) if left.dtype == right.dtype else None
    vector, value = (left, right) if isinstance(left, Vector) else (right, left)
    if not isinstance(vector, Vector):
        return None
    scalar = _scalar(value, vector)
    if scalar is None:
        return None
    return (vector.array, scalar, vector.dtype) if vector is left else (scalar, vector.array, vector.dtype)


def _scalar(value: Any, beside: Vector) -> Any:
    kind = type(value)
    match beside.dtype:
        case "int64" | "Int64" if kind is int and -(2**63) <= value < 2**63:
            return pa.scalar(value, pa.int64())
        case "float64" if kind is int and abs(value) <= EXACT_FLOAT:
            return pa.scalar(float(value), pa.float64())
        case "float64" if kind is float and not math.isnan(value):
            return pa.scalar(value, pa.float64())
        case "str" if kind is str:
            return pa.scalar(value, pa.large_string())
        case _:
            return None


def _compare(name: str, a: Any, b: Any, dtype: str) -> Vector | None:
    if dtype not in _COMPARABLE:
        return None
    result: Any = _COMPARE[name](a, b)
    if dtype == "Int64":
        return Vector(result, "boolean")
    return Vector(pc.fill_null(result, name == "ne"), "bool")


def _arithmetic(name: str, a: Any, b: Any, dtype: str) -> Vector | None:
    """Integers wrap, as in NumPy; floats follow IEEE 754, so that x / 0 is infinite and 0 / 0 is null."""
    if name == "truediv":
        if dtype not in ("int64", "float64"):
            return None
        double = pa.float64()
        return Vector(_without_nan(pc.divide(_cast(a, double), _cast(b, double))), "float64")
    if dtype in ("int64", "Int64"):
        return Vector(_ARITHMETIC[name](a, b), dtype)
    if dtype == "float64":
        return Vector(_without_nan(_ARITHMETIC[name](a, b)), dtype)
    return None


def _cast(values: Any, kind: pa.DataType) -> Any:
    return values if values.type == kind else pc.cast(values, kind, safe=False)


def _without_nan(values: Any) -> Any:
    nan = pc.is_nan(values)
    return pc.if_else(nan, pa.scalar(None, values.type), values) if pc.any(nan).as_py() else values
