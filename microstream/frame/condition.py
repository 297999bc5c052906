"""`frame.query(text)`: pandas' query language as an expression that can be looked into.

The grammar is Python's, with what pandas adds: `@name` for a variable, backticks around names that are no identifiers,
`&` and `|` that bind like `and` and `or`, and a list beside `==` and `!=`, which means `in` and `not in`.
"""

from __future__ import annotations

import ast
import operator
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

from microstream.errors import PlanError
from microstream.frame.columns import Column, col

__all__ = ["caller_names", "condition"]

_TEXT = r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\""
_PIECES = re.compile(rf"(?P<text>{_TEXT})|`(?P<quoted>[^`]+)`|@(?P<variable>[A-Za-z_]\w*)|(?P<logic>[&|])")
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def condition(text: str, columns: Sequence[str], variables: Mapping[str, Any]) -> Column:
    """`text` as a condition on `columns`; `@name` is looked up in `variables`.

    Raises
    ------
    PlanError
        The text cannot be read, names what is not there, or is no condition.

    >>> condition("price > 100 & tag == ['a', 'b']", ["price", "tag"], {})
    <column (price > 100) & tag.isin(['a', 'b'])>
    """
    if not isinstance(text, str) or not text.strip():
        raise PlanError(f"query({text!r}): give a condition as text, as in query('price > 100').")
    reader = _Reader(text, columns, variables)
    found = reader.read()
    if not isinstance(found, Column):
        raise PlanError(f"query({text!r}): gives {found!r}, which is not about any column.")
    return found


def caller_names(depth: int) -> Mapping[str, Any]:
    """Variables of the function `depth` calls above the one that asks, its own before those of its module."""
    frame = sys._getframe(depth)
    return {**frame.f_globals, **frame.f_locals}


class _Reader:
    """One text on its way to an expression."""

    def __init__(self, text: str, columns: Sequence[str], variables: Mapping[str, Any]) -> None:
        self._text = text
        self._columns = columns
        self._variables = variables
        self._names: dict[str, str] = {}

    def read(self) -> Any:
        try:
            tree = ast.parse(_PIECES.sub(self._plain, self._text.strip().replace("\n", " ")), mode="eval")
        except SyntaxError as problem:
            raise self._refused(f"cannot be read ({problem.msg})") from problem
        return self._value(tree.body)

    def _plain(self, piece: re.Match[str]) -> str:
        """Python for a piece that is not Python."""
        if piece["quoted"]:
            stand_in = f"_column_{len(self._names)}"
            self._names[stand_in] = piece["quoted"]
            return stand_in
        if piece["variable"]:
            return f"_variables.{piece['variable']}"
        if piece["logic"]:
            return " and " if piece["logic"] == "&" else " or "
        return piece[0]

    def _refused(self, why: str) -> PlanError:
        return PlanError(f"query({self._text!r}): {why}.")

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self._column(name)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self._value(item) for item in items]
            case ast.BoolOp(op=how, values=values):
                parts = [self._value(value) for value in values]
                return reduce(operator.and_ if isinstance(how, ast.And) else operator.or_, parts)
            case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
                return ~self._value(operand)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._value(operand)
            case ast.BinOp(left=left, op=how, right=right) if type(how) in _ARITHMETIC:
                return _ARITHMETIC[type(how)](self._value(left), self._value(right))
            case ast.Compare(left=left, ops=ops, comparators=others):
                return self._compared([left, *others], ops)
            case ast.Attribute(value=ast.Name(id="_variables"), attr=name):
                return self._variable(name)
            case ast.Attribute(value=value, attr=name) if not name.startswith("_"):
                return getattr(self._value(value), name)
            case ast.Subscript(value=value, slice=ast.Constant(value=at)):
                return self._value(value)[at]
            case ast.Call(func=ast.Attribute() as fn, args=args, keywords=keywords):
                named = {word.arg: self._value(word.value) for word in keywords if word.arg is not None}
                return self._value(fn)(*(self._value(arg) for arg in args), **named)
            case _:
                raise self._refused(f"{ast.unparse(node)!r} is not part of the language. Use filter(ms.col(...) ...)")

    def _column(self, name: str) -> Column:
        found = self._names.get(name, name)
        if found in self._columns:
            return col(found)
        if found == "index":
            raise self._refused("a stream has no index")
        hint = f" For the variable write @{found}." if found in self._variables else ""
        raise PlanError(
            f"{PlanError.unknown_column(f'query({self._text!r})', found, self._columns)}{hint}", column=found
        )

    def _variable(self, name: str) -> Any:
        if name not in self._variables:
            raise self._refused(f"there is no variable {name!r} for @{name} where query() is called")
        return self._variables[name]

    def _compared(self, nodes: Sequence[ast.expr], ops: Sequence[ast.cmpop]) -> Any:
        """`a < b <= c` is `(a < b) & (b <= c)`."""
        values = [self._value(node) for node in nodes]
        return reduce(operator.and_, (_one(op, a, b) for op, a, b in zip(ops, values, values[1:], strict=False)))


def _one(how: ast.cmpop, left: Any, right: Any) -> Any:
    within = isinstance(how, ast.In | ast.Eq) and not _is_plain(right)
    without = isinstance(how, ast.NotIn | ast.NotEq) and not _is_plain(right)
    if isinstance(left, Column) and (within or without):
        return left.isin(right) if within else ~left.isin(right)
    if type(how) not in _COMPARE:
        raise PlanError(f"query: {left!r} {type(how).__name__.lower()} {right!r}: write a column in a list of values.")
    return _COMPARE[type(how)](left, right)


def _is_plain(value: Any) -> bool:
    return isinstance(value, Column | str | bytes) or not hasattr(value, "__iter__")
