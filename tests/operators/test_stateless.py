from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import rows_of, source

from microstream.errors import InternalError
from microstream.operators.failure import UserFunctionFailed
from microstream.operators.rows import Rows
from microstream.operators.stateless import apply, instantiate
from microstream.plan.expr import Call, Column, Expr, Literal, Opaque
from microstream.plan.nodes import Assign, Concat, Explode, Filter, MapBatches, Node, Project, WindowAggregate

NUMBERS = source(x="int64", y=pa.float64())
LISTS = source(x="int64", tags=pa.list_(pa.large_string()))


def applied(node: Node, *inputs: Rows | None) -> Rows:
    out = apply(node, inputs, instantiate([node]))
    assert out is not None
    return out


def failure(node: Node, *inputs: Rows) -> UserFunctionFailed:
    with pytest.raises(UserFunctionFailed) as caught:
        apply(node, inputs, instantiate([node]))
    return caught.value


def row_wise(kind: str, expr: Expr) -> Node:
    """A node of each kind that evaluates `expr`."""
    if kind == "filter":
        return Filter(child=NUMBERS, predicate=expr)
    if kind == "assign":
        return Assign(child=NUMBERS, name="z", expr=expr, dtype=pa.bool_())
    return Project(child=NUMBERS, exprs=(expr,), schema=pa.schema([("z", pa.bool_())]), event_time=None)


def mapped(fn: Callable[..., Any], batch_format: Any = "pandas", **columns: pa.DataType) -> MapBatches:
    schema = pa.schema(list(columns.items())) if columns else NUMBERS.schema
    return MapBatches(child=NUMBERS, fn=fn, schema=schema, batch_format=batch_format)


def big(frame: pd.DataFrame) -> Any:
    """A row-wise function that cannot stand the number 13."""
    if (frame["x"] == 13).any():
        raise ZeroDivisionError("13")
    return frame["x"] > 10


def test_filter_keeps_true_rows_and_where_they_came_from() -> None:
    node = Filter(child=NUMBERS, predicate=Call("gt", (Column("y"), Literal(1))))

    out = applied(node, rows_of(NUMBERS, x=[1, 2, 3, 4], y=[2.0, None, 0.0, 5.0], first_origin=100))

    assert out.table["x"].to_pylist() == [1, 4]
    assert out.origin is not None
    assert out.origin.tolist() == [100, 103]


def test_nothing_is_left_when_no_row_passes() -> None:
    node = Filter(child=NUMBERS, predicate=Call("gt", (Column("x"), Literal(9))))

    assert apply(node, (rows_of(NUMBERS, x=[1], y=[1.0]),), {}) is None


def test_project_gives_exactly_its_schema() -> None:
    schema = pa.schema(
        [pa.field("double", pa.int64(), nullable=False), pa.field("when", NUMBERS.schema.field("at").type)]
    )
    exprs = (Call("mul", (Column("x"), Literal(2))), Column("at"))
    node = Project(child=NUMBERS, exprs=exprs, schema=schema, event_time="when")

    out = applied(node, rows_of(NUMBERS, x=[1, 2], y=[None, None]))

    assert out.table.schema.equals(node.schema)
    assert out.table["double"].to_pylist() == [2, 4]
    assert out.origin is not None


@pytest.mark.parametrize("name", ["x", "new"])
def test_assign_replaces_a_column_in_place_or_appends_it(name: str) -> None:
    node = Assign(child=NUMBERS, name=name, expr=Literal("a"), dtype=pa.large_string())

    out = applied(node, rows_of(NUMBERS, x=[1], y=[1.0]))

    assert out.table.schema.equals(node.schema)
    assert out.table[name].to_pylist() == ["a"]


@settings(deadline=None, max_examples=60)
@given(
    lists=st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.text(max_size=2)), max_size=3)), min_size=1),
    skip=st.integers(0, 3),
)
def test_explode_gives_the_rows_of_pandas_and_repeats_origins(lists: list[list[str] | None], skip: int) -> None:
    whole = rows_of(LISTS, x=list(range(len(lists))), tags=lists)
    rows = whole.take(np.arange(min(skip, len(lists) - 1), len(lists)))
    frame = pd.DataFrame({"x": rows.table["x"].to_pylist(), "tags": rows.table["tags"].to_pylist()})

    out = applied(Explode(child=LISTS, columns=("tags",)), rows)

    expected = frame.explode("tags")
    assert out.table["x"].to_pylist() == expected["x"].to_list()
    assert out.table["tags"].to_pylist() == [None if tag is None or tag != tag else tag for tag in expected["tags"]]
    assert out.origin is not None
    assert out.origin.tolist() == expected["x"].to_list()


def test_a_list_column_explodes_without_others_beside_it() -> None:
    node = source(tags=LISTS.schema.field("tags").type)

    out = applied(Explode(child=node, columns=("tags",)), rows_of(node, tags=[["a", "b"], [], None, ["c"]]))

    assert out.table["tags"].to_pylist() == ["a", "b", None, None, "c"]


def test_concat_matches_columns_by_name_and_keeps_origins_of_all_sources() -> None:
    swapped = source(y=pa.float64(), x="int64")
    node = Concat(children=(NUMBERS, swapped, NUMBERS))
    lost = Rows(table=rows_of(NUMBERS, x=[5], y=[5.0]).table, origin=None)

    out = applied(node, rows_of(NUMBERS, x=[1, 2], y=[1.0, 2.0]), rows_of(swapped, 7, x=[3], y=[30.0]), lost)

    assert out.table.schema.equals(node.schema)
    assert out.table["x"].to_pylist() == [1, 2, 3, 5]
    assert [out.origin_of(row) for row in range(4)] == [0, 1, 7, None]


def test_concat_of_one_filled_frame_and_silent_ones() -> None:
    node = Concat(children=(NUMBERS, NUMBERS))

    assert applied(node, None, rows_of(NUMBERS, x=[1], y=[1.0])).table["x"].to_pylist() == [1]
    assert apply(node, (None, None), {}) is None


@pytest.mark.parametrize("empty", [None, rows_of(NUMBERS, x=[], y=[])])
def test_user_functions_never_see_zero_rows(empty: Rows | None) -> None:
    calls: list[int] = []

    def count(frame: pd.DataFrame) -> Any:
        calls.append(len(frame))
        return frame

    for node in (mapped(count), Filter(child=NUMBERS, predicate=Opaque(count))):
        assert apply(node, (empty,), {}) is None
    assert calls == []


def test_map_batches_gets_pandas_and_loses_origins() -> None:
    node = mapped(lambda frame: frame.iloc[::-1].assign(x=lambda f: f["x"] + 1))

    out = applied(node, rows_of(NUMBERS, x=[1, 2], y=[None, 1.0]))

    assert out.table.schema.equals(NUMBERS.schema)
    assert out.table["x"].to_pylist() == [3, 2]
    assert out.origin is None


def test_map_batches_gets_arrow_if_asked_and_may_return_columns_in_any_order() -> None:
    node = mapped(lambda table: table.select(["y", "x"]), "arrow", x=pa.int64(), y=pa.float64())

    out = applied(node, rows_of(NUMBERS, x=[1, 2], y=[None, 1.0]))

    assert out.table.schema.equals(node.schema)


def test_a_class_is_instantiated_once_for_all_nodes_and_batches() -> None:
    made: list[object] = []

    class Model:
        def __init__(self) -> None:
            made.append(self)

        def __call__(self, frame: pd.DataFrame) -> pd.DataFrame:
            return frame

    nodes = [mapped(Model), mapped(Model)]
    instances = instantiate(nodes)
    for node in nodes:
        apply(node, (rows_of(NUMBERS, x=[1], y=[1.0]),), instances)

    assert len(made) == 1


def test_a_class_that_cannot_be_instantiated_fails_without_a_row() -> None:
    class Model:
        def __init__(self) -> None:
            raise OSError("no weights")

    with pytest.raises(UserFunctionFailed) as caught:
        instantiate([mapped(Model)])

    assert isinstance(caught.value.cause, OSError)
    assert caught.value.row is None


@settings(deadline=None, max_examples=40)
@given(
    kind=st.sampled_from(["filter", "assign", "project"]),
    numbers=st.lists(st.sampled_from([1, 20, 13]), min_size=1, max_size=30).filter(lambda xs: 13 in xs),
)
def test_the_first_row_that_a_row_wise_function_cannot_stand_is_named(kind: str, numbers: list[int]) -> None:
    node = row_wise(kind, Opaque(big))

    found = failure(node, rows_of(NUMBERS, 500, x=numbers, y=[0.0] * len(numbers)))

    assert isinstance(found.cause, ZeroDivisionError)
    assert found.__cause__ is found.cause
    assert (found.node, found.row) == (node, numbers.index(13))
    assert found.origin == 500 + numbers.index(13)


def test_the_first_row_that_map_batches_cannot_stand_is_named() -> None:
    node = mapped(lambda frame: frame.assign(x=big(frame).astype("int64")))

    found = failure(node, rows_of(NUMBERS, 500, x=[1, 2, 13, 4, 13], y=[0.0] * 5))

    assert (found.row, found.origin) == (2, 502)


def test_no_row_is_named_when_each_passes_alone() -> None:
    def only_one(frame: pd.DataFrame) -> pd.DataFrame:
        if len(frame) > 1:
            raise ValueError("one at a time")
        return frame

    found = failure(mapped(only_one), rows_of(NUMBERS, x=[1, 2, 3], y=[0.0] * 3))

    assert (found.row, found.origin) == (None, None)


def test_a_row_whose_source_is_unknown_has_no_origin() -> None:
    rows = Rows(table=rows_of(NUMBERS, x=[13], y=[0.0]).table, origin=None)

    found = failure(row_wise("filter", Opaque(big)), rows)

    assert (found.row, found.origin) == (0, None)


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (lambda frame: frame.drop(columns="x"), ["missing: x", "not declared: none"]),
        (lambda frame: frame.assign(z=1), ["missing: none", "not declared: z"]),
        (lambda frame: frame.rename(columns={"x": "z"}), ["missing: x", "not declared: z"]),
        (lambda frame: None, ["NoneType"]),
    ],
)
def test_missing_and_extra_columns_are_both_told_and_blamed_on_the_first_row_that_has_them(
    fn: Any, words: list[str]
) -> None:
    node = mapped(lambda frame: fn(frame) if (frame["x"] == 13).any() else frame)

    found = failure(node, rows_of(NUMBERS, 500, x=[1, 13, 2, 13], y=[0.0, 1.0, 0.0, 1.0]))

    assert all(word in str(found.cause) for word in words)
    assert (found.row, found.origin) == (1, 501)


@pytest.mark.parametrize("batch_format", ["pandas", "arrow"])
def test_values_of_another_type_than_declared_are_refused(batch_format: str) -> None:
    node = mapped(
        lambda rows: rows, batch_format, x=pa.large_string(), y=pa.float64(), at=NUMBERS.schema.field("at").type
    )

    found = failure(node, rows_of(NUMBERS, x=[1, 2], y=[0.0, 1.0]))

    assert "'x'" in str(found.cause)
    assert "int64" in str(found.cause)


def test_the_row_with_a_value_that_does_not_fit_is_named() -> None:
    node = mapped(lambda frame: frame.assign(y=[None if x == 3 else 1 for x in frame["x"]], x=frame["x"]), x=pa.int64())
    node = MapBatches(
        child=NUMBERS,
        fn=node.fn,
        schema=NUMBERS.schema.set(1, pa.field("y", pa.int64(), nullable=False)),
    )

    found = failure(node, rows_of(NUMBERS, 10, x=[1, 2, 3], y=[0.0] * 3))

    assert (found.row, found.origin) == (2, 12)
    assert "never null" in str(found.cause)


def test_an_event_time_that_became_null_is_refused() -> None:
    node = mapped(lambda frame: frame.assign(at=frame["at"].where(frame["x"] != 2)))

    found = failure(node, rows_of(NUMBERS, x=[1, 2], y=[0.0] * 2))

    assert found.row == 1
    assert "event time 'at' is null" in str(found.cause)


@pytest.mark.parametrize("kind", ["filter", "assign", "project"])
def test_a_row_wise_function_that_returns_fewer_values_fails(kind: str) -> None:
    node = row_wise(kind, Opaque(lambda frame: (frame["x"] > 0).iloc[:1]))

    found = failure(node, rows_of(NUMBERS, x=[1, 2, 3], y=[0.0] * 3))

    assert "1 values for 3 rows" in str(found.cause)
    assert found.row is None


def test_a_filter_that_gives_no_truth_values_fails() -> None:
    found = failure(Filter(child=NUMBERS, predicate=Column("x")), rows_of(NUMBERS, x=[1], y=[0.0]))

    assert "int64" in str(found.cause)


def test_a_stateful_node_is_not_for_apply() -> None:
    node = object.__new__(WindowAggregate)

    with pytest.raises(InternalError, match="WindowAggregate"):
        apply(node, (rows_of(NUMBERS, x=[1], y=[0.0]),), {})
