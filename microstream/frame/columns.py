"""Column expressions as users write them: `ms.col("price") * 0.9`, `frame["price"] > 100`."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NoReturn, Self, cast, overload

import numpy as np
import pandas as pd
from pandas.api.typing import Expression as PandasCol

from microstream.errors import PlanError
from microstream.frame.absent import absent_column
from microstream.frame.binding import Binding, check_bindings
from microstream.frame.namespaces import Lists, Structs, Texts, Times, like_pandas
from microstream.frame.piping import piped
from microstream.plan.expr import Accessor, Call, Expr, Opaque, freeze
from microstream.plan.expr import Column as Named
from microstream.plan.nodes import Node
from microstream.plan.rowwise import UFUNC

__all__ = ["Column", "col", "column_name", "resolve"]

_OPERATOR_OF = {
    "add": "add", "subtract": "sub", "multiply": "mul", "divide": "truediv", "floor_divide": "floordiv",
    "remainder": "mod", "power": "pow", "equal": "eq", "not_equal": "ne", "less": "lt", "less_equal": "le",
    "greater": "gt", "greater_equal": "ge", "bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor",
    "invert": "invert", "negative": "neg", "absolute": "abs", "isnan": "isna",
}  # fmt: skip
"""NumPy's functions that are operators, as `np.float64(2) * column` calls them; nulls are what it knows as NaN."""


class RowWise:
    """A method of `pandas.Series` that gives each row its value from that row alone."""

    def __init__(self, name: str = "") -> None:
        self._name = name

    def __set_name__(self, owner: type[Column], name: str) -> None:
        self._name = self._name or name
        self._like = getattr(pd.Series, name)
        self.__doc__ = f"Row by row, as `pandas.Series.{name}`."

    @overload
    def __get__(self, column: None, owner: type[Column]) -> Self: ...
    @overload
    def __get__(self, column: Column, owner: type[Column]) -> Callable[..., Column]: ...
    def __get__(self, column: Column | None, owner: type[Column]) -> Any:
        return self if column is None else like_pandas(self._name, self._like, column._call)

    def __call__(self, column: Column, *args: Any, **kwargs: Any) -> Column:
        """`Column.round(column, 2)` is `column.round(2)`."""
        return column._call(self._name, *args, **kwargs)


class Reflected(RowWise):
    """A method whose column is on the right: `column.rsub(1)` is `1 - column`."""

    @overload
    def __get__(self, column: None, owner: type[Column]) -> Self: ...
    @overload
    def __get__(self, column: Column, owner: type[Column]) -> Callable[..., Column]: ...
    def __get__(self, column: Column | None, owner: type[Column]) -> Any:
        if column is None:
            return self
        return like_pandas(self._name, self._like, lambda name, other: _reflected(name, other, column))


class Column:
    """A value per row, computed from columns: operators, row-wise methods of `pandas.Series`, `str`, `dt`, ...

    Combine conditions with `&`, `|` and `~`. A method that looks across rows, such as `mean` or `shift`, is refused:
    a stream has no whole column.

    >>> col("price") * 0.9 > 100
    <column (price * 0.9) > 100>
    """

    __slots__ = ("_bindings", "_expr")
    __hash__ = None  # type: ignore[assignment]
    __pandas_priority__ = 5_000

    abs, astype, between, clip, combine_first = RowWise(), RowWise(), RowWise(), RowWise(), RowWise()
    fillna, isin, isna, isnull, mask = RowWise(), RowWise(), RowWise(), RowWise("isna"), RowWise()
    notna, notnull, round, where = RowWise(), RowWise("notna"), RowWise(), RowWise()
    add, sub, subtract, mul, multiply = RowWise(), RowWise(), RowWise("sub"), RowWise(), RowWise("mul")
    truediv, div, divide, floordiv = RowWise(), RowWise("truediv"), RowWise("truediv"), RowWise()
    mod, pow = RowWise(), RowWise()
    eq, ne, lt, le, gt, ge = RowWise(), RowWise(), RowWise(), RowWise(), RowWise(), RowWise()
    radd, rsub, rmul, rmod = Reflected("add"), Reflected("sub"), Reflected("mul"), Reflected("mod")
    rtruediv, rdiv = Reflected("truediv"), Reflected("truediv")
    rfloordiv, rpow = Reflected("floordiv"), Reflected("pow")

    def __init__(self, expr: Expr, bindings: tuple[Binding, ...] = ()) -> None:
        self._expr = expr
        self._bindings = bindings

    @property
    def str(self) -> Texts[Column]:
        """Methods of text: `ms.col("url").str.lower()`."""
        return Texts(partial(self._access, "str"))

    @property
    def dt(self) -> Times[Column]:
        """Parts of a time or a duration: `ms.col("ts").dt.hour`."""
        return Times(partial(self._access, "dt"))

    @property
    def list(self) -> Lists[Column]:
        """Elements of a list: `ms.col("tags").list.len()`, `ms.col("tags").list[0]`."""
        return Lists(partial(self._access, "list"))

    @property
    def struct(self) -> Structs[Column]:
        """Fields of a nested record: `ms.col("after").struct.field("id")`."""
        return Structs(partial(self._access, "struct"))

    def map(self, arg: Any, na_action: Literal["ignore"] | None = None) -> Column:
        """Each value by a function, a mapping or a Series; what a mapping does not know becomes null.

        Parameters
        ----------
        arg
            Called once now, with two made-up values, to learn the type of what it returns.
        na_action
            "ignore" leaves nulls as they are instead of handing them to a function.
        """
        how = {} if na_action is None else {"na_action": na_action}
        return self._call("map", arg.to_dict() if isinstance(arg, pd.Series) else arg, **how)

    def replace(self, to_replace: Any = None, value: Any = None) -> Column:
        """Values by other values, whole and all at once: `replace({"NL": "nl"})`, `replace([1, 2], 0)`.

        For patterns in text see `.str.replace`.
        """
        if isinstance(to_replace, Mapping) and value is not None:
            raise PlanError("replace: give a mapping of old to new values, or old values and value=.")
        if isinstance(to_replace, builtins.list) and isinstance(value, builtins.list) and len(to_replace) != len(value):
            raise PlanError(f"replace: {len(to_replace)} old values, but {len(value)} new ones.")
        return self._call("replace", to_replace, value)

    def case_when(self, caselist: Sequence[tuple[Any, Any]]) -> Column:
        """The value of the first case whose condition is true, this column's own where none is; null is not true.

        >>> n = col("n")
        >>> n.case_when([(n < 0, "negative"), (n > 0, "positive")])
        <column n.case_when(n < 0, 'negative', n > 0, 'positive')>
        """
        if not caselist or not all(isinstance(case, tuple) and len(case) == 2 for case in caselist):
            raise PlanError(f"case_when({caselist!r:.100}): give a list of (condition, value).")
        return self._call("case_when", *(part for case in caselist for part in case))

    def pipe(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """`fn(self, *args, **kwargs)`, to write steps of one's own in a chain."""
        return piped(self, fn, args, kwargs)

    def __array_ufunc__(self, ufunc: np.ufunc, method: builtins.str, *inputs: Any, **kwargs: Any) -> Column:
        """`np.log(column)`: NumPy's element-wise functions of one result."""
        name = _OPERATOR_OF.get(ufunc.__name__, f"{UFUNC}{ufunc.__name__}")
        known = getattr(np, ufunc.__name__, None) is ufunc and ufunc.signature is None
        if method != "__call__" or not known or ufunc.nout != 1:
            raise PlanError(
                f"{ufunc.__name__} of a column: only NumPy's own element-wise functions of one result can be used, "
                f"as in np.log(column). Otherwise: assign(name=lambda frame: ...)."
            )
        return build(lambda parts, named: Call(name, parts, named), inputs, kwargs)

    def _access(self, space: builtins.str, name: builtins.str, *args: Any, **kwargs: Any) -> Column:
        return build(lambda parts, named: Accessor(space, name, parts, named), (self, *args), kwargs)

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
        raise absent_column(name, builtins.str(self._expr) if not name.startswith("_") else "")


def col(name: str) -> Column:
    """The column `name` of whatever frame the expression is used on.

    Unlike `pandas.col` it can be looked into, so that sources decode only what is used.

    >>> col("price").fillna(0) + 1
    <column price.fillna(0) + 1>
    """
    if not isinstance(name, str):
        raise PlanError(f"col({name!r}): a column name is text.")
    return Column(Named(name))


def column_name(value: Any, node: Node, where: str) -> str:
    """The name of a column given by its name, or as the column itself."""
    if isinstance(value, str):
        return value
    expr = resolve(value, node, where) if isinstance(value, Column) else None
    if not isinstance(expr, Named):
        raise PlanError(f"{where}({value!r:.100}): give names; what is computed needs one, as in assign(name=...).")
    return expr.name


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
    if isinstance(value, list | tuple | np.ndarray | pd.Series | pd.Index):
        raise PlanError(
            f"{where}: a {type(value).__name__} has no rows of a stream to stand beside. Give a column, a callable or "
            "one plain value."
        )
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
