"""Column expressions as users write them: `ms.col("price") * 0.9`, `frame["price"] > 100`."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, NoReturn, cast

import pandas as pd
from pandas.api.typing import Expression as PandasCol

from microstream.errors import PlanError
from microstream.frame.binding import Binding, check_bindings
from microstream.plan.expr import Accessor, Call, Expr, Opaque, freeze
from microstream.plan.expr import Column as Named
from microstream.plan.nodes import Node
from microstream.plan.rowwise import ACCESSORS, DT_PROPERTIES

__all__ = ["Column", "Namespace", "col", "resolve"]

_MANY_ROWS = ("sum", "mean", "min", "max", "count", "size")


class RowWise:
    """A method of `pandas.Series` that gives each row its value from that row alone."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.__doc__ = f"Row by row, as `pandas.Series.{name}`."

    def __get__(self, column: Column | None, owner: type[Column]) -> Callable[..., Column]:
        if column is None:
            return self

        def method(*args: Any, **kwargs: Any) -> Column:
            return column._call(self._name, *args, **kwargs)

        method.__name__ = self._name
        method.__doc__ = self.__doc__
        return method

    def __call__(self, column: Column, *args: Any, **kwargs: Any) -> Column:
        """`Column.round(column, 2)` is `column.round(2)`."""
        return column._call(self._name, *args, **kwargs)


class Column:
    """A value per row, computed from columns: operators, row-wise methods of `pandas.Series`, `str`, `dt`, ...

    Combine conditions with `&`, `|` and `~`. A method that looks across rows, such as `mean` or `shift`, is refused:
    a stream has no whole column.

    >>> col("price") * 0.9 > 100
    <column (price * 0.9) > 100>
    """

    __slots__ = ("_bindings", "_expr")
    __hash__ = None  # type: ignore[assignment]
    __array_ufunc__ = None
    __pandas_priority__ = 5_000

    isin, between, isna, notna = RowWise("isin"), RowWise("between"), RowWise("isna"), RowWise("notna")
    isnull, notnull = isna, notna
    fillna, where, mask, map = RowWise("fillna"), RowWise("where"), RowWise("mask"), RowWise("map")
    astype, abs, round, clip = RowWise("astype"), RowWise("abs"), RowWise("round"), RowWise("clip")
    add, sub, mul, truediv = RowWise("add"), RowWise("sub"), RowWise("mul"), RowWise("truediv")
    div, floordiv, mod, pow = truediv, RowWise("floordiv"), RowWise("mod"), RowWise("pow")
    eq, ne, lt, le, gt, ge = RowWise("eq"), RowWise("ne"), RowWise("lt"), RowWise("le"), RowWise("gt"), RowWise("ge")

    def __init__(self, expr: Expr, bindings: tuple[Binding, ...] = ()) -> None:
        self._expr = expr
        self._bindings = bindings

    @property
    def str(self) -> Namespace:
        """Methods of text: `ms.col("url").str.lower()`."""
        return Namespace(self, "str")

    @property
    def dt(self) -> Namespace:
        """Parts of a time or a duration: `ms.col("ts").dt.hour`."""
        return Namespace(self, "dt")

    @property
    def list(self) -> Namespace:
        """Elements of a list: `ms.col("tags").list.len()`, `ms.col("tags").list[0]`."""
        return Namespace(self, "list")

    @property
    def struct(self) -> Namespace:
        """Fields of a nested record: `ms.col("after").struct.field("id")`."""
        return Namespace(self, "struct")

    def _call(self, name: builtins.str, *args: Any, **kwargs: Any) -> Column:
        return build(lambda parts, named: Call(name, parts, named), (self, *args), kwargs)

    def __add__(self, other: Any) -> Column:
        return self._call("add", other)

    def __radd__(self, other: Any) -> Column:
        return _reflected("add", other, self)

    def __sub__(self, other: Any) -> Column:
        return self._call("sub", other)

    def __rsub__(self, other: Any) -> Column:
        return _reflected("sub", other, self)

    def __mul__(self, other: Any) -> Column:
        return self._call("mul", other)

    def __rmul__(self, other: Any) -> Column:
        return _reflected("mul", other, self)

    def __truediv__(self, other: Any) -> Column:
        return self._call("truediv", other)

    def __rtruediv__(self, other: Any) -> Column:
        return _reflected("truediv", other, self)

    def __floordiv__(self, other: Any) -> Column:
        return self._call("floordiv", other)

    def __rfloordiv__(self, other: Any) -> Column:
        return _reflected("floordiv", other, self)

    def __mod__(self, other: Any) -> Column:
        return self._call("mod", other)

    def __rmod__(self, other: Any) -> Column:
        return _reflected("mod", other, self)

    def __pow__(self, other: Any) -> Column:
        return self._call("pow", other)

    def __rpow__(self, other: Any) -> Column:
        return _reflected("pow", other, self)

    def __and__(self, other: Any) -> Column:
        return self._call("and", other)

    def __rand__(self, other: Any) -> Column:
        return _reflected("and", other, self)

    def __or__(self, other: Any) -> Column:
        return self._call("or", other)

    def __ror__(self, other: Any) -> Column:
        return _reflected("or", other, self)

    def __xor__(self, other: Any) -> Column:
        return self._call("xor", other)

    def __rxor__(self, other: Any) -> Column:
        return _reflected("xor", other, self)

    def __eq__(self, other: object) -> Column:  # type: ignore[override]
        return self._call("eq", other)

    def __ne__(self, other: object) -> Column:  # type: ignore[override]
        return self._call("ne", other)

    def __lt__(self, other: Any) -> Column:
        return self._call("lt", other)

    def __le__(self, other: Any) -> Column:
        return self._call("le", other)

    def __gt__(self, other: Any) -> Column:
        return self._call("gt", other)

    def __ge__(self, other: Any) -> Column:
        return self._call("ge", other)

    def __invert__(self) -> Column:
        return self._call("invert")

    def __neg__(self) -> Column:
        return self._call("neg")

    def __abs__(self) -> Column:
        return self._call("abs")

    def __round__(self, digits: int = 0) -> Column:
        return self._call("round", digits)

    def __bool__(self) -> bool:
        raise PlanError(
            f"{self._expr} has a value per row, so it is neither true nor false. Combine conditions with & | ~ instead "
            "of and, or, not, with each side in parentheses; choose between values with .where()."
        )

    def __iter__(self) -> NoReturn:
        raise PlanError(f"{self._expr}: a column of a stream cannot be looped over. Use map_batches(fn).")

    def __repr__(self) -> builtins.str:
        return f"<column {self._expr}>"

    def __getattr__(self, name: builtins.str) -> NoReturn:
        if name.startswith("_") or not callable(getattr(pd.Series, name, None)):
            raise AttributeError(f"a column has no attribute {name!r}")
        how = name if name in _MANY_ROWS else "sum"
        raise PlanError(
            f"{self._expr}: {name}() may look across rows, and a stream has no whole column. Use a window: "
            f'frame.groupby(keys).window(ms.tumbling("1min")).agg(name=("column", "{how}")), or map_batches(fn) for '
            "something within one batch."
        )


class Namespace:
    """The row-wise members of `pandas.Series.str`, `.dt`, `.list` or `.struct`."""

    __slots__ = ("_column", "_space")

    def __init__(self, column: Column, space: str) -> None:
        self._column = column
        self._space = space

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in ACCESSORS[self._space]:
            names = ", ".join(self.__dir__())
            raise PlanError(f".{self._space}.{name} is not available on columns of a stream. There are: {names}.")
        if self._space == "dt" and name in DT_PROPERTIES:
            return self._member(name)

        def method(*args: Any, **kwargs: Any) -> Column:
            return self._member(name, *args, **kwargs)

        return method

    def __getitem__(self, at: Any) -> Column:
        if self._space == "str":
            return (
                self._member("slice", at.start, at.stop, at.step) if isinstance(at, slice) else self._member("get", at)
            )
        if self._space == "list":
            return self._member("__getitem__", at)
        raise PlanError(f".{self._space}[{at!r}]: only .str and .list have elements.")

    def __iter__(self) -> NoReturn:
        raise PlanError(f".{self._space} cannot be looped over.")

    def __dir__(self) -> list[str]:
        return sorted(name for name in ACCESSORS[self._space] if not name.startswith("_"))

    def _member(self, name: str, *args: Any, **kwargs: Any) -> Column:
        return build(lambda parts, named: Accessor(self._space, name, parts, named), (self._column, *args), kwargs)


def col(name: str) -> Column:
    """The column `name` of whatever frame the expression is used on.

    Unlike `pandas.col` it can be looked into, so that sources decode only what is used.

    >>> col("price").fillna(0) + 1
    <column price.fillna(0) + 1>
    """
    if not isinstance(name, str):
        raise PlanError(f"col({name!r}): a column name is text.")
    return Column(Named(name))


def resolve(value: Any, node: Node, where: str) -> Expr:
    """`value` (column, callable, `pandas.col`, plain value) as an expression on rows of `node`.

    Raises
    ------
    PlanError
        It is bound to another frame, or to a column that changed since, or is no plain value.
    """
    if isinstance(value, Column):
        check_bindings(value._bindings, node, where)
        return value._expr
    if isinstance(value, PandasCol) or callable(value):
        return Opaque(value)
    return freeze(value)


def build(
    make: Callable[[tuple[Expr, ...], tuple[tuple[str, Expr], ...]], Expr],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Column:
    """The expression that `make` gives of `args` and `kwargs`, bound to what they are bound to."""
    parts = tuple(_operand(value) for value in args)
    named = tuple((name, _operand(value)) for name, value in sorted(kwargs.items()))
    bound = (value for value in (*args, *kwargs.values()) if isinstance(value, Column))
    return Column(make(parts, named), tuple(dict.fromkeys(b for column in bound for b in column._bindings)))


def _operand(value: Any) -> Expr:
    if isinstance(value, Column):
        return value._expr
    return Opaque(cast(Any, value)) if isinstance(value, PandasCol) else freeze(value)


def _reflected(name: str, left: Any, right: Column) -> Column:
    return build(lambda parts, named: Call(name, parts, named), (left, right), {})
