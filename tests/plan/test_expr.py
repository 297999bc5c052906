from __future__ import annotations

import cloudpickle
import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from tables import FLOATS, INT64, SCHEMA, SMALL, TIMES, WORDS, tables

from microstream.errors import PlanError
from microstream.plan.dtypes import WrongColumnsError, to_array, to_series
from microstream.plan.expr import Accessor, Call, Column, Expr, Literal, Opaque, columns_of, evaluate, freeze
from microstream.plan.infer import infer_column
from microstream.plan.rowwise import call

COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
ARITHMETIC = ("add", "sub", "mul", "truediv")

numbers = st.sampled_from(["i", "j", "f"])
literals = {"i": INT64 | SMALL, "j": INT64 | SMALL, "f": FLOATS | SMALL, "s": WORDS, "t": TIMES}


@st.composite
def operations(draw: st.DrawFn) -> Expr:
    """One operator of two columns, or of a column and a plain value, on either side."""
    name = draw(st.sampled_from([*COMPARISONS, *ARITHMETIC]))
    left = draw(numbers if name in ARITHMETIC else st.sampled_from(["i", "j", "f", "s", "t"]))
    value = freeze(draw(literals[left]))
    other = draw(st.sampled_from([Column(left), value]))
    args = (Column(left), other) if draw(st.booleans()) else (other, Column(left))
    return Call(name, args)


def by_pandas(expr: Call, table: pa.Table) -> pa.Array:
    """What the operator gives on Series, without any kernel."""
    values = [
        to_series(table.column(arg.name), table.schema.field(arg.name)) if isinstance(arg, Column) else arg.value
        for arg in expr.args
        if isinstance(arg, Column | Literal)
    ]
    result = call(expr.name, values, {})
    field = infer_column(expr, table.schema, "out", "test")
    return to_array(result, field, "test")


def plain(values: pa.Array | pa.ChunkedArray) -> list[object]:
    return [None if v is None else repr(v) for v in values.to_pylist()]


@given(table=tables(min_size=1), expr=operations())
@settings(deadline=None, max_examples=300)
def test_kernels_give_what_pandas_gives(table: pa.Table, expr: Call) -> None:
    with np.errstate(all="ignore"):
        expected = by_pandas(expr, table)

        found = evaluate(expr, table)

    assert plain(found) == plain(expected)
    assert found.type == expected.type


@given(table=tables(min_size=1), name=st.sampled_from(["and", "or"]), pair=st.tuples(*[st.sampled_from("bm")] * 2))
@settings(deadline=None)
def test_logic_gives_what_pandas_gives(table: pa.Table, name: str, pair: tuple[str, str]) -> None:
    expr = Call(name, (Column(pair[0]), Column(pair[1])))

    found = evaluate(expr, table)

    assert plain(found) == plain(by_pandas(expr, table))


def cond(name: str = "b") -> Expr:
    return Column(name)


ROW_WISE: list[Expr] = [
    Call("floordiv", (Column("i"), Column("i"))),
    Call("mod", (Column("i"), Literal(3))),
    Call("where", (Column("i"), cond())),
    Call("where", (Column("i"), cond(), Literal(0.5))),
    Call("where", (Column("b"), cond())),
    Call("mask", (Column("s"), cond(), Literal("none"))),
    Call("where", (Column("j"), cond(), Column("i"))),
    Call("fillna", (Column("j"), Literal(0))),
    Call("map", (Column("s"), freeze({"a": 1, "": 2}))),
    Call("map", (Column("i"), freeze({1: True}))),
    Call("isin", (Column("s"), freeze(["a", ""]))),
    Call("between", (Column("j"), Literal(0), Literal(2))),
    Call("clip", (Column("f"), Literal(0.0), Literal(1.0))),
    Call("invert", (Column("m"),)),
    Call("ne", (Column("m"), Column("b"))),
    Call("astype", (Column("i"), Literal("float64"))),
    Call("astype", (Column("t"), Literal("str"))),
    Accessor("str", "len", (Column("s"),)),
    Accessor("str", "contains", (Column("s"), Literal("a"))),
    Accessor("str", "split", (Column("s"),)),
    Accessor("str", "upper", (Column("s"),)),
    Accessor("dt", "hour", (Column("t"),)),
    Accessor("dt", "floor", (Column("t"), Literal("1h"))),
    Accessor("list", "len", (Column("tags"),)),
    Call("sub", (Column("t"), freeze(pd.Timestamp("2026-01-01", tz="Europe/Rome")))),
    Call("add", (Column("t"), freeze(pd.Timedelta("1s")))),
    Opaque(lambda frame: frame["s"].str.len()),
    Opaque(pd.col("f") * 2),
    freeze("x"),
]


@pytest.mark.parametrize("expr", ROW_WISE, ids=str)
@given(table=tables(min_size=1, ints=SMALL))
@settings(deadline=None, max_examples=40)
def test_the_type_learnt_from_the_sample_fits_every_batch(expr: Expr, table: pa.Table) -> None:
    field = infer_column(expr, SCHEMA, "out", "test")

    column = evaluate(expr, table, field)

    assert column.type == field.type
    assert len(column) == table.num_rows
    assert field.nullable or column.null_count == 0


@pytest.mark.parametrize("expr", [e for e in ROW_WISE if columns_of(e) is not None], ids=str)
@given(table=tables(min_size=1, ints=SMALL))
@settings(deadline=None, max_examples=10)
def test_only_the_columns_that_are_named_are_touched(expr: Expr, table: pa.Table) -> None:
    needed = table.select(sorted(columns_of(expr) or ()) or ["i"])

    assert plain(evaluate(expr, needed)) == plain(evaluate(expr, table))


@given(table=tables(min_size=2, ints=SMALL), expr=st.sampled_from([e for e in ROW_WISE if not isinstance(e, Opaque)]))
@settings(deadline=None, max_examples=100)
def test_a_value_does_not_depend_on_the_other_rows_of_the_batch(table: pa.Table, expr: Expr) -> None:
    field = infer_column(expr, SCHEMA, "out", "test")

    whole = evaluate(expr, table, field)
    parts = [evaluate(expr, table.slice(at, 1), field) for at in range(table.num_rows)]

    assert plain(whole) == [value for part in parts for value in plain(part)]


def test_a_pandas_col_survives_pickling() -> None:
    table = pa.table({"a": [1, 2]})
    sent = cloudpickle.loads(cloudpickle.dumps(Opaque(pd.col("a") + 1)))

    assert evaluate(sent, table).to_pylist() == [2, 3]


def test_the_index_of_a_returned_column_is_ignored() -> None:
    table = pa.table({"a": [1, 2, 3]})
    backwards = Opaque(lambda frame: frame["a"].set_axis([2, 1, 0]))

    assert evaluate(backwards, table).to_pylist() == [1, 2, 3]


@pytest.mark.parametrize("fn", [lambda frame: frame["a"].head(1), lambda frame: frame, lambda frame: object()])
def test_what_is_no_column_of_the_batch_is_refused(fn: object) -> None:
    with pytest.raises(WrongColumnsError):
        evaluate(Opaque(fn), pa.table({"a": [1, 2]}))  # type: ignore[arg-type]


def test_text_of_an_expression_reads_like_pandas_and_holds_no_addresses() -> None:
    price = Call("mul", (Column("price"), Literal(0.9)))
    expr = Call("and", (Call("gt", (price, Literal(1))), Call("isin", (Column("s"), freeze({"b", "a"})))))
    mapped = Call("map", (Column("s"), freeze(len)))

    assert str(expr) == "((price * 0.9) > 1) & s.isin(['a', 'b'])"
    assert str(mapped) == "s.map(builtins.len)"


def test_a_type_that_cannot_be_told_is_a_plan_error_that_says_what_to_do() -> None:
    objects = Opaque(lambda frame: frame["s"].map(lambda text: {"text": text}))

    with pytest.raises(PlanError, match=r"object.*schema="):
        infer_column(objects, SCHEMA, "out", "assign")


def test_a_function_that_fails_on_the_sample_is_a_plan_error_with_its_cause() -> None:
    failing = Opaque(lambda frame: frame["missing"])

    with pytest.raises(PlanError, match="sample of two rows") as raised:
        infer_column(failing, SCHEMA, "out", "assign")

    assert isinstance(raised.value.__cause__, KeyError)


def test_an_unknown_column_is_named_with_the_likeliest() -> None:
    with pytest.raises(PlanError, match="Did you mean 'tags'"):
        infer_column(Column("tag"), SCHEMA, "out", "assign")


@pytest.mark.parametrize("value", [object(), pd.Series([1]), pd.DataFrame()])
def test_a_value_with_rows_or_without_text_is_no_literal(value: object) -> None:
    with pytest.raises(PlanError, match="not a value"):
        freeze(value)
