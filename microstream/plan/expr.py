"""Column expressions: an inspectable tree of pandas' row-wise operations, and its evaluation on a batch.

What a plan needs to know of an expression can be read off the tree: which columns it uses, and how it reads as text.
The exception is `Opaque`, a function of the user, which may look at every column.
"""

from __future__ import annotations

import copyreg
import datetime
import decimal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api.typing import Expression as PandasCol

from microstream.errors import PlanError
from microstream.plan.dtypes import (
    ArrowColumn,
    WrongColumnsError,
    canonical,
    dtype_of,
    schema_of,
    to_array,
    to_frame,
    to_series,
)
from microstream.plan.kernels import Vector, apply
from microstream.plan.listwise import on_lists
from microstream.plan.rowwise import SYMBOLS, UFUNC, access, call
from microstream.plan.splitting import split

__all__ = [
    "Accessor",
    "Call",
    "Column",
    "Expr",
    "Literal",
    "Opaque",
    "callable_name",
    "columns_of",
    "evaluate",
    "field_of",
    "freeze",
]


@dataclass(frozen=True, slots=True)
class Column:
    """Column `name` of the frame that the expression is evaluated on."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Literal:
    """A plain value: number, text, time, duration, None, or a list, tuple or mapping of them (see `freeze`)."""

    value: Any

    def __str__(self) -> str:
        return f"{type(self.value).__name__}({str(self.value)!r})" if _is_time(self.value) else repr(self.value)


@dataclass(frozen=True, slots=True)
class Call:
    """Operator or method `name` of `args[0]` (plan/rowwise.py names them)."""

    name: str
    args: tuple[Expr, ...]
    kwargs: tuple[tuple[str, Expr], ...] = ()

    def __str__(self) -> str:
        if self.name.startswith(UFUNC):
            return f"{self.name}({_arguments(self.args, self.kwargs)})"
        if self.name not in SYMBOLS:
            return f"{_operand(self.args[0])}.{self.name}({_arguments(self.args[1:], self.kwargs)})"
        if len(self.args) == 1:
            return f"{SYMBOLS[self.name]}{_operand(self.args[0])}"
        return f"{_operand(self.args[0])} {SYMBOLS[self.name]} {_operand(self.args[1])}"


@dataclass(frozen=True, slots=True)
class Accessor:
    """Method or property `name` of `args[0].str`, `.dt`, `.list` or `.struct`."""

    space: str
    name: str
    args: tuple[Expr, ...]
    kwargs: tuple[tuple[str, Expr], ...] = ()

    def __str__(self) -> str:
        inside = _arguments(self.args[1:], self.kwargs)
        return f"{_operand(self.args[0])}.{self.space}.{self.name}" + (f"({inside})" if inside else "")


@dataclass(frozen=True, slots=True, eq=False)
class Opaque:
    """A function from the pandas frame of a batch to a column, or a `pandas.col` expression."""

    fn: Callable[[pd.DataFrame], Any]

    def __str__(self) -> str:
        return f"pd:{self.fn!r}" if isinstance(self.fn, PandasCol) else f"{callable_name(self.fn)}(frame)"


Expr: TypeAlias = Column | Literal | Call | Accessor | Opaque


def columns_of(expr: Expr) -> frozenset[str] | None:
    """Columns that `expr` reads; None: it may read all of them.

    >>> sorted(columns_of(Call("add", (Column("a"), Column("b")))))
    ['a', 'b']
    """
    found: set[str] = set()
    for part in walk(expr):
        if isinstance(part, Opaque):
            return None
        if isinstance(part, Column):
            found.add(part.name)
    return frozenset(found)


def walk(expr: Expr) -> Iterator[Expr]:
    """`expr` and everything below it."""
    yield expr
    if isinstance(expr, Call | Accessor):
        for part in (*expr.args, *(value for _, value in expr.kwargs)):
            yield from walk(part)


def evaluate(expr: Expr, table: pa.Table, field: pa.Field[Any] | None = None) -> ArrowColumn:
    """The value of `expr` for each row of `table`; touches only the columns that `expr` names.

    Parameters
    ----------
    table
        At least one row where `expr` holds functions of the user, which never see an empty frame.
    field
        The column that the result is to be: its type, and whether it may be null. None: the type that pandas gives.

    Raises
    ------
    WrongColumnsError
        The result is no column of this length, or does not fit `field`.

    >>> table = pa.table({"price": [1.0, None]})
    >>> evaluate(Call("gt", (Column("price"), Literal(0))), table).to_pylist()
    [True, False]
    """
    value = _value_per_row(expr, table)
    if not isinstance(value, Vector | pd.Series):
        return _repeat(value, table.num_rows, field, str(expr))
    return to_array(_natural(value), field or _field(value, str(expr), "column"), str(expr))


def field_of(expr: Expr, table: pa.Table, name: str = "column") -> pa.Field[Any]:
    """The column `name` that pandas makes of `expr` on `table`; PlanError where it has no type (objects)."""
    value = _value_per_row(expr, table)
    if isinstance(value, Vector | pd.Series):
        return _field(value, str(expr), name)
    kind = _repeat(value, 1, None, str(expr)).type
    whole = pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    return pa.field(name, kind, nullable=not whole)


def freeze(value: Any) -> Literal:
    """A `Literal` of `value`, which may not change any more and reads the same in every process.

    Raises
    ------
    PlanError
        `value` is not a plain value.
    """
    return Literal(_frozen(value))


def callable_name(fn: Any) -> str:
    """Module and name of a function or class, without memory addresses."""
    inner: Any = getattr(fn, "func", None)
    named: Any = fn if hasattr(fn, "__qualname__") else inner if hasattr(inner, "__qualname__") else type(fn)
    return f"{named.__module__}.{named.__qualname__}"


def _value_per_row(expr: Expr, table: pa.Table) -> Any:
    """The value of `expr`: a column as long as `table`, or one plain value for all rows."""
    value = _value(expr, table)
    if isinstance(value, pd.Series) and len(value) != table.num_rows:
        raise WrongColumnsError(f"{expr}: gave {len(value)} values for {table.num_rows} rows.")
    return value


def _value(expr: Expr, table: pa.Table) -> Any:
    match expr:
        case Column(name):
            at = table.schema.get_field_index(name)
            if at < 0:
                raise PlanError.unknown_column("expression", name, table.schema.names)
            return Vector(table.column(at), str(dtype_of(table.schema.field(at))))
        case Literal(value):
            return value
        case Opaque(fn):
            return _opaque(fn, table)
        case Call(name, args, kwargs):
            values = [_value(arg, table) for arg in args]
            fast = None if kwargs else apply(name, values)
            return fast or call(name, [_pandas(v) for v in values], _keywords(kwargs, table))
        case Accessor(space, name, args, kwargs):
            values, named = [_value(arg, table) for arg in args], _keywords(kwargs, table)
            fast = _of_text(name, values, named) if space == "str" else None
            return fast or access(space, name, [_pandas(v) for v in values], named)


def _of_text(name: str, args: list[Any], kwargs: Mapping[str, Any]) -> Vector | None:
    """What Arrow can do of `.str`; None where pandas must do it."""
    fast = split(args) if name == "split" and not kwargs else None
    return fast or on_lists(name, args, kwargs)


def _natural(value: Vector | pd.Series[Any]) -> ArrowColumn | pd.Series[Any]:
    return value.array if isinstance(value, Vector) else value


def _field(value: Vector | pd.Series[Any], where: str, name: str) -> pa.Field[Any]:
    if isinstance(value, Vector):
        return pa.field(name, value.array.type, nullable=not _never_null(value.dtype))
    return schema_of(pd.DataFrame({name: value}), where).field(0)


def _never_null(dtype: str) -> bool:
    return dtype == "bool" or dtype.startswith(("int", "uint"))


def _keywords(kwargs: tuple[tuple[str, Expr], ...], table: pa.Table) -> dict[str, Any]:
    return {name: _pandas(_value(value, table)) for name, value in kwargs}


def _pandas(value: Any) -> Any:
    if not isinstance(value, Vector):
        return value
    return to_series(value.array, pa.field("column", value.array.type, nullable=not _never_null(value.dtype)))


def _opaque(fn: Callable[[pd.DataFrame], Any], table: pa.Table) -> Any:
    """Call `fn`; a column is taken by position, because a stream has no index."""
    frame = to_frame(table)
    result = frame.assign(**{"": fn})[""] if isinstance(fn, PandasCol) else fn(frame)
    if isinstance(result, pd.DataFrame):
        raise WrongColumnsError(f"{callable_name(fn)}: returned a frame, but one column is needed.")
    if isinstance(result, pd.Series):
        return result.set_axis(pd.RangeIndex(len(result)))
    listlike = isinstance(result, list | tuple | np.ndarray | pd.api.extensions.ExtensionArray | pd.Index)
    return pd.Series(result) if listlike else result


def _repeat(value: Any, rows: int, field: pa.Field[Any] | None, where: str) -> ArrowColumn:
    try:
        plain = value.item() if isinstance(value, np.generic) and value.dtype.kind not in "mM" else value
        plain = None if plain is pd.NA or plain is pd.NaT else plain
        single = pa.array([plain], from_pandas=True)
        kind = canonical(single.type) if field is None else field.type
        one = to_array(single, pa.field("value", kind), where)
        return pa.repeat(one[0], rows)
    except (pa.ArrowException, TypeError, PlanError) as problem:
        raise WrongColumnsError(f"{where}: {value!r} is not a column ({problem}).") from problem


_PLAIN = (
    bool, int, float, str, bytes, decimal.Decimal, datetime.date, datetime.timedelta, pd.Timestamp, pd.Timedelta,
    np.generic, type(None), type(pd.NA), type(pd.NaT), type, np.dtype, pd.api.extensions.ExtensionDtype, pa.DataType,
)  # fmt: skip


def _frozen(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        moment = pd.Timestamp(value)
        return moment.tz_convert("UTC").tz_localize(None) if moment.tzinfo is not None else moment
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, np.ndarray | pd.Index | pd.api.extensions.ExtensionArray):
        return _frozen(list(value.tolist()))
    if isinstance(value, tuple):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, list):
        return [_frozen(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_frozen(item) for item in value), key=repr)
    if isinstance(value, Mapping):
        return {_frozen(key): _frozen(item) for key, item in value.items()}
    if callable(value):
        return value
    hint = " A column of another frame cannot be used here: name it, as in ms.col('x')." if _has_rows(value) else ""
    raise PlanError(f"{type(value).__name__} is not a value that an expression can hold: {value!r:.100}.{hint}")


def _has_rows(value: Any) -> bool:
    return isinstance(value, pd.Series | pd.DataFrame)


def _is_time(value: Any) -> bool:
    return isinstance(value, pd.Timestamp | pd.Timedelta | datetime.timedelta)


def _operand(expr: Expr) -> str:
    return f"({expr})" if isinstance(expr, Call) and expr.name in SYMBOLS else str(expr)


def _arguments(args: tuple[Expr, ...], kwargs: tuple[tuple[str, Expr], ...]) -> str:
    return ", ".join([*(_text(a) for a in args), *(f"{name}={_text(value)}" for name, value in kwargs)])


def _text(expr: Expr) -> str:
    if isinstance(expr, Literal) and callable(expr.value):
        return callable_name(expr.value)
    return str(expr)


def _reduce_pandas_col(column: Any) -> tuple[Any, ...]:
    return type(column), (column._func, column._repr_str, column._needs_parentheses)


copyreg.pickle(PandasCol, _reduce_pandas_col)  # unpickling one is endless recursion in pandas 3.1 otherwise
