"""The row-wise part of `pandas.Series`: which names a column expression may use, and how they run.

A name is here only if the value of a row follows from that row alone. Where pandas lets the data decide the dtype
(`where`, `map`, `//`), the dtype is made a function of the input dtypes: what may become null becomes nullable.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from microstream.plan.dtypes import dtype_of, parse_schema, to_series

__all__ = ["ACCESSORS", "DT_PROPERTIES", "METHODS", "OPERATORS", "SYMBOLS", "access", "call"]

OPERATORS: Mapping[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "truediv": operator.truediv,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "pow": operator.pow,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "invert": operator.invert,
    "neg": operator.neg,
}
SYMBOLS: Mapping[str, str] = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**", "eq": "==",
    "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "and": "&", "or": "|", "xor": "^", "invert": "~",
    "neg": "-",
}  # fmt: skip
METHODS = frozenset(
    {"abs", "astype", "between", "clip", "fillna", "isin", "isna", "map", "mask", "notna", "round", "where"}
)
_STR = frozenset({
    "capitalize", "casefold", "center", "contains", "count", "decode", "encode", "endswith", "extract",
    "find", "findall", "fullmatch", "get", "index", "isalnum", "isalpha", "isascii", "isdecimal",
    "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "join", "len", "ljust", "lower",
    "lstrip", "match", "normalize", "pad", "removeprefix", "removesuffix", "repeat", "replace", "rfind",
    "rindex", "rjust", "rsplit", "rstrip", "slice", "slice_replace", "split", "startswith", "strip",
    "swapcase", "title", "translate", "upper", "wrap", "zfill",
})  # fmt: skip
_DT = frozenset({
    "ceil", "day_name", "floor", "month_name", "normalize", "round", "strftime", "total_seconds",
})  # fmt: skip
DT_PROPERTIES = frozenset({
    "day", "day_of_week", "day_of_year", "dayofweek", "dayofyear", "days", "days_in_month",
    "daysinmonth", "hour", "is_leap_year", "is_month_end", "is_month_start", "is_quarter_end",
    "is_quarter_start", "is_year_end", "is_year_start", "microsecond", "microseconds", "minute",
    "month", "nanosecond", "nanoseconds", "quarter", "second", "seconds", "weekday", "year",
})  # fmt: skip
ACCESSORS: Mapping[str, frozenset[str]] = {
    "str": _STR,
    "dt": _DT | DT_PROPERTIES,
    "list": frozenset({"len", "__getitem__"}),
    "struct": frozenset({"field"}),
}
_TEXTS = pa.list_(pa.large_string())
_OBJECTS = {"split": _TEXTS, "rsplit": _TEXTS, "findall": _TEXTS, "encode": pa.large_binary()}
"""Methods of `.str` that give Python objects in pandas, and the type of those."""


def call(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Operator or method `name` of `args[0]`, all of them Series or plain values."""
    subject = args[0]
    if name in ("floordiv", "mod") and not kwargs:
        return _divide_whole(name, subject, args[1])
    if name in OPERATORS and not kwargs:
        return OPERATORS[name](*args)
    match name:
        case "where":
            return _where(subject, *args[1:], **kwargs)
        case "mask":
            return _mask(subject, *args[1:], **kwargs)
        case "map":
            return _map(subject, *args[1:], **kwargs)
        case "astype":
            return _astype(subject, *args[1:], **kwargs)
        case _:
            return getattr(_series(subject), name)(*args[1:], **kwargs)


def access(space: str, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """`args[0].<space>.<name>(...)`, or its value where it is a property."""
    subject, *rest = args
    member = getattr(getattr(_series(subject), space), name)
    result = member(*rest, **kwargs) if callable(member) else member
    kind = _OBJECTS.get(name) if space == "str" and not kwargs.get("expand") else None
    if kind is None:
        return result
    values = result.to_numpy(dtype=object, na_value=None)
    return to_series(pa.array(values, type=kind, from_pandas=True), pa.field(name, kind))


def _series(value: Any) -> Any:
    return value if isinstance(value, pd.Series) else pd.Series([value])


def _divide_whole(name: str, left: Any, right: Any) -> Any:
    """`//` and `%`; a whole column by a whole column is float64 always, not only in batches with a zero in it."""
    result = OPERATORS[name](left, right)
    numpy_ints = all(
        isinstance(side, pd.Series) and isinstance(side.dtype, np.dtype) and side.dtype.kind in "iu"
        for side in (right, result)
    )
    return result.astype("float64") if numpy_ints else result


def _where(values: Any, cond: Any, other: Any = None) -> Any:
    values = _series(values)
    if other is None or other is pd.NA or other is pd.NaT or (isinstance(other, float) and np.isnan(other)):
        return _nullable(values).where(cond)
    beside = other if isinstance(other, pd.Series) else pd.Series([other])
    target = pd.concat([values.iloc[:0], beside.iloc[:0]]).dtype
    return values.astype(target).where(cond, other)


def _mask(values: Any, cond: Any, other: Any = None) -> Any:
    return _where(values, ~cond, other)


def _map(values: Any, arg: Any, na_action: Any = None) -> Any:
    series = _series(values)
    if not isinstance(arg, Mapping):
        return series.map(arg, na_action=na_action)
    mapping = _nullable(pd.Series(list(arg.values()), index=list(arg.keys())))
    return series.map(mapping).astype(mapping.dtype)


def _astype(values: Any, dtype: Any) -> Any:
    return _series(values).astype(dtype_of(parse_schema({"astype": dtype}).field(0)))


def _nullable(series: pd.Series[Any]) -> pd.Series[Any]:
    """`series` with a dtype that can hold null: int64 becomes Int64, bool boolean."""
    dtype = series.dtype
    if not isinstance(dtype, np.dtype) or dtype.kind not in "iub":
        return series
    return series.astype(dtype_of(pa.field("", pa.from_numpy_dtype(dtype))))
