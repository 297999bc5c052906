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

from microstream.plan.dtypes import WrongColumnsError, dtype_of, parse_schema, to_series

__all__ = ["ACCESSORS", "DT_PROPERTIES", "METHODS", "OPERATORS", "SYMBOLS", "UFUNC", "access", "call"]

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
METHODS = frozenset({
    "abs", "astype", "between", "case_when", "clip", "combine_first", "fillna", "isin", "isna", "map", "mask", "notna",
    "replace", "round", "where",
})  # fmt: skip
UFUNC = "np."
"""Prefix of the names of NumPy's element-wise functions: `np.log(ms.col("x"))` is a call of "np.log"."""
_STR = frozenset({
    "capitalize", "casefold", "center", "contains", "count", "decode", "encode", "endswith", "extract",
    "find", "findall", "fullmatch", "get", "index", "isalnum", "isalpha", "isascii", "isdecimal",
    "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "join", "len", "ljust", "lower",
    "lstrip", "match", "normalize", "pad", "partition", "removeprefix", "removesuffix", "repeat", "replace",
    "rfind", "rindex", "rjust", "rpartition", "rsplit", "rstrip", "slice", "slice_replace", "split",
    "startswith", "strip", "swapcase", "title", "translate", "upper", "wrap", "zfill",
})  # fmt: skip
_DT = frozenset({
    "ceil", "day_name", "floor", "month_name", "normalize", "round", "strftime", "total_seconds", "tz_convert",
    "tz_localize",
})  # fmt: skip
DT_PROPERTIES = frozenset({
    "date", "day", "day_of_week", "day_of_year", "dayofweek", "dayofyear", "days", "days_in_month",
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
_RENAMED = {
    "dayofweek": "day_of_week", "weekday": "day_of_week", "dayofyear": "day_of_year", "daysinmonth": "days_in_month",
}  # fmt: skip
"""Names that pandas gives up."""
_TEXTS = pa.list_(pa.large_string())
_OBJECTS: Mapping[tuple[str, str], pa.DataType] = {
    **{("str", name): _TEXTS for name in ("split", "rsplit", "findall", "partition", "rpartition")},
    ("str", "encode"): pa.large_binary(),
    ("str", "decode"): pa.large_string(),
    ("dt", "date"): pa.date32(),
}
"""Members that give Python objects in pandas, and the type of those."""
_ONE_COLUMN = frozenset({"extract", "partition", "rpartition"})
"""Methods of `.str` that give several columns in pandas unless they are told `expand=False`."""


def call(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Operator, method or NumPy function `name` of `args[0]`, all of them Series or plain values."""
    if name in ("floordiv", "mod") and not kwargs:
        return _divide_whole(name, args[0], args[1])
    if name in OPERATORS and not kwargs:
        return OPERATORS[name](*args)
    if name.startswith(UFUNC):
        return getattr(np, name.removeprefix(UFUNC))(*args, **kwargs)
    own = _OWN.get(name)
    subject = _series(args[0])
    return own(subject, *args[1:], **kwargs) if own is not None else getattr(subject, name)(*args[1:], **kwargs)


def access(space: str, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """`args[0].<space>.<name>(...)`, or its value where it is a property."""
    subject, *rest = args
    if space == "str" and name in _ONE_COLUMN:
        kwargs = {"expand": False, **kwargs}
    if (space, name) == ("str", "decode"):
        subject = _series(subject).astype(object)
    member = getattr(getattr(_series(subject), space), _RENAMED.get(name, name))
    result = member(*rest, **kwargs) if callable(member) else member
    if isinstance(result, pd.DataFrame):
        raise WrongColumnsError(f".{space}.{name} gave {result.shape[1]} columns. Take them one by one.")
    kind = _OBJECTS.get((space, name))
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


def _where(values: pd.Series[Any], cond: Any, other: Any = None) -> Any:
    cond, other = _called(cond, values), _called(other, values)
    if _is_null(other):
        return _nullable(values).where(cond)
    return values.astype(_common(values, other)).where(cond, other)


def _mask(values: pd.Series[Any], cond: Any, other: Any = None) -> Any:
    return _where(values, ~_called(cond, values), other)


def _case_when(values: pd.Series[Any], *cases: Any) -> Any:
    """The value of the first condition that is true; `cases` are conditions and values in turns."""
    result = values
    for cond, value in reversed(list(zip(cases[::2], cases[1::2], strict=True))):
        truth = _called(cond, values)
        result = _mask(result, truth.fillna(False) if isinstance(truth, pd.Series) else truth, _called(value, values))
    return result


def _replace(values: pd.Series[Any], to_replace: Any, value: Any = None) -> Any:
    """Values by values, all at once; the dtype has room for all of them, also where none occurs in this batch."""
    if isinstance(to_replace, Mapping):
        pairs = list(to_replace.items())
    else:
        old = to_replace if isinstance(to_replace, list) else [to_replace]
        new = value if isinstance(value, list) else [value] * len(old)
        pairs = list(zip(old, new, strict=True))
    result = values
    for old_value, new_value in pairs:
        result = _mask(result, values.isin([old_value]), new_value)
    return result


def _clip(values: pd.Series[Any], lower: Any = None, upper: Any = None) -> Any:
    for bound in (lower, upper):
        if not _is_null(bound):
            values = values.astype(_common(values, bound))
    return values.clip(lower, upper)


def _fillna(values: pd.Series[Any], value: Any) -> Any:
    """Refuses at once what pandas refuses, or turns into objects, in the first batch that holds a null."""
    if isinstance(value, Mapping):
        raise TypeError("a mapping fills by index, and there is none")
    common = _common(values, value)
    masked = isinstance(values.dtype, pd.api.extensions.ExtensionDtype)
    lossy = masked and pd.api.types.is_integer_dtype(values.dtype) and not pd.api.types.is_integer_dtype(common)
    objects = isinstance(common, np.dtype) and common.kind == "O" and not isinstance(values.dtype, pd.ArrowDtype)
    if lossy or objects:
        raise TypeError(f"{value!r:.100} cannot be among values of {values.dtype}")
    return values.fillna(value)


def _combine_first(values: pd.Series[Any], other: Any) -> Any:
    return _where(values, values.notna(), other)


def _map(series: pd.Series[Any], arg: Any, na_action: Any = None) -> Any:
    if not isinstance(arg, Mapping):
        return series.map(arg, na_action=na_action)
    mapping = _nullable(pd.Series(list(arg.values()), index=list(arg.keys())))
    return series.map(mapping).astype(mapping.dtype)


def _astype(values: pd.Series[Any], dtype: Any) -> Any:
    return values.astype(dtype_of(parse_schema({"astype": dtype}).field(0)))


_OWN: Mapping[str, Callable[..., Any]] = {
    "where": _where, "mask": _mask, "case_when": _case_when, "replace": _replace, "clip": _clip,
    "combine_first": _combine_first, "fillna": _fillna, "map": _map, "astype": _astype,
}  # fmt: skip
"""Methods whose dtype the data would decide in pandas."""


def _common(values: pd.Series[Any], other: Any) -> Any:
    """The dtype that has room for both."""
    return pd.concat([values.iloc[:0], _series(other).iloc[:0]]).dtype


def _called(value: Any, values: pd.Series[Any]) -> Any:
    return value(values) if callable(value) else value


def _is_null(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value))


def _nullable(series: pd.Series[Any]) -> pd.Series[Any]:
    """`series` with a dtype that can hold null: int64 becomes Int64, bool boolean."""
    dtype = series.dtype
    if not isinstance(dtype, np.dtype) or dtype.kind not in "iub":
        return series
    return series.astype(dtype_of(pa.field("", pa.from_numpy_dtype(dtype))))
