"""Same values, against Python's own comparison."""

from __future__ import annotations

import datetime as dt
import decimal
import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.plan.sameness import same_values

numbers = st.one_of(st.none(), st.sampled_from([0.0, -0.0, 1.5, math.nan]))
structs = st.one_of(st.none(), st.fixed_dictionaries({"a": numbers, "b": st.sampled_from([None, "x", "y"])}))
PLAIN: list[tuple[pa.DataType, list[Any]]] = [
    (pa.bool_(), [True, False, None]),
    (pa.int8(), [1, 2, None]),
    (pa.uint64(), [2**64 - 1, 0, None]),
    (pa.large_string(), ["a", "", None]),
    (pa.large_binary(), [b"a", b"", None]),
    (pa.decimal128(5, 2), [decimal.Decimal("1.50"), decimal.Decimal("2.00"), None]),
    (pa.date32(), [dt.date(2026, 1, 1), dt.date(2026, 1, 2), None]),
    (pa.timestamp("us"), [dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 2), None]),
    (pa.duration("us"), [dt.timedelta(1), dt.timedelta(2), None]),
    (pa.time64("us"), [dt.time(1), dt.time(2), None]),
    (pa.null(), [None]),
]
NESTED: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.float64(), numbers),
    (pa.large_list(pa.float64()), st.one_of(st.none(), st.lists(numbers, max_size=3))),
    (pa.list_(pa.list_(pa.float64())), st.one_of(st.none(), st.lists(st.lists(numbers, max_size=2), max_size=2))),
    (pa.list_(pa.float64(), 2), st.one_of(st.none(), st.lists(numbers, min_size=2, max_size=2))),
    (
        pa.map_(pa.large_string(), pa.float64()),
        st.one_of(st.none(), st.lists(st.tuples(st.sampled_from("ab"), numbers), max_size=2, unique_by=lambda p: p[0])),
    ),
    (pa.struct([("a", pa.float64()), ("b", pa.large_string())]), structs),
    (
        pa.list_(pa.struct([("a", pa.float64()), ("b", pa.large_string())])),
        st.one_of(st.none(), st.lists(structs, max_size=2)),
    ),
]


def alike(left: Any, right: Any) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return all(alike(left[name], right[name]) for name in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(alike, left, right))
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    return bool(left == right)


@pytest.mark.parametrize(("kind", "values"), PLAIN, ids=str)
def test_every_pair_of_plain_values(kind: pa.DataType, values: list[Any]) -> None:
    pairs = [(left, right) for left in values for right in values]
    left, right = (pa.array(side, kind) for side in zip(*pairs, strict=True))

    assert same_values(left, right).tolist() == [one == other for one, other in pairs]


@pytest.mark.parametrize(("kind", "values"), NESTED, ids=str)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_values_within_values(kind: pa.DataType, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    pairs = data.draw(st.lists(st.tuples(values, values), max_size=6))
    left, right = (pa.array([pair[side] for pair in pairs], kind) for side in (0, 1))
    expected = [alike(one, other) for one, other in pairs]

    assert same_values(left, right).tolist() == expected
    assert same_values(pa.chunked_array([left.slice(0, 1), left.slice(1)]), right).tolist() == expected
    assert same_values(left.slice(1), right.slice(1)).tolist() == expected[1:]


def test_what_lies_under_a_null_does_not_count() -> None:
    values = pa.array([1.0, 2.0, 3.0])
    hidden = pa.ListArray.from_arrays(pa.array([0, 2, 3]), values, mask=pa.array([True, False]))
    plain = pa.array([None, [3.0]], hidden.type)

    assert same_values(hidden, plain).tolist() == [True, True]
