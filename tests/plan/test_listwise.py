from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings

from microstream.plan.dtypes import WrongColumnsError
from microstream.plan.kernels import Vector
from microstream.plan.listwise import on_lists

TEXTS = pa.list_(pa.large_string())
LISTS = st.lists(st.none() | st.lists(st.none() | st.sampled_from(["", "a", "é"]), max_size=4), max_size=6)
PLACES = st.integers(-5, 5)
BOUNDS = st.tuples(st.none() | PLACES, st.none() | PLACES, st.none() | PLACES.filter(bool))


def arrow(lists: list[list[str | None] | None], first: int, kind: pa.DataType = TEXTS) -> Vector:
    """`lists` behind `first` others, in two chunks."""
    array = pa.array([*[["x", "y"]] * first, *lists], kind)[first:]
    middle = len(lists) // 2
    return Vector(pa.chunked_array([array[:middle], array[middle:]], kind), "")


def by_pandas(lists: list[Any], member: str, *args: Any) -> list[Any]:
    if not any(item is not None for item in lists):
        return [None] * len(lists)  # pandas has no .str for a column of nothing but nulls
    found = getattr(pd.Series(lists, dtype=object).str, member)(*args)
    return [list(v) if isinstance(v, list) else None if pd.isna(v) else v for v in found]


@given(lists=LISTS, first=st.integers(0, 2), at=PLACES, bounds=BOUNDS, kind=st.sampled_from([TEXTS, "large"]))
@settings(deadline=None)
def test_lists_give_what_pandas_gives(
    lists: list[list[str | None] | None], first: int, at: int, bounds: tuple[int | None, ...], kind: Any
) -> None:
    column = arrow(lists, first, pa.large_list(pa.large_string()) if kind == "large" else kind)

    for member, args in (("get", (at,)), ("slice", bounds), ("len", ()), ("join", ("-",))):
        found = on_lists(member, [column, *args], {})

        assert found is not None
        assert found.array.to_pylist() == by_pandas(lists, member, *args), member


def test_columns_of_anything_else_are_left_to_pandas() -> None:
    assert on_lists("len", [Vector(pa.array(["a"], pa.large_string()), "str")], {}) is None
    assert on_lists("len", [pd.Series(["a"])], {}) is None
    assert on_lists("len", ["a"], {}) is None


@pytest.mark.parametrize(
    ("member", "args", "says"),
    [
        ("upper", (), "is for text, and these are lists"),
        ("get", ("a",), "'a' is not the place of an element"),
        ("get", (True,), "True is not the place"),
        ("slice", (0, 1.5), "1.5 is not the place"),
        ("join", (1,), "give the text that goes in between"),
    ],
)
def test_what_lists_do_not_have_is_refused(member: str, args: tuple[Any, ...], says: str) -> None:
    with pytest.raises(WrongColumnsError, match=says):
        on_lists(member, [arrow([["a"]], 0), *args], {})


def test_only_texts_are_joined() -> None:
    numbers = Vector(pa.array([[1, 2]]), "")

    with pytest.raises(WrongColumnsError, match="joins texts, but these are list<item: int64>"):
        on_lists("join", [numbers, "-"], {})
