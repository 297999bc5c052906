from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.operators.order import NOWHERE, Order, Places, key_text, partition_text


@settings(deadline=None)
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
        (pa.float64(), st.floats(allow_nan=False).map(lambda x: x + 0.0)),
        (pa.large_string(), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4)),
        (pa.bool_(), st.booleans()),
        (pa.timestamp("us"), st.datetimes()),
        (pa.date32(), st.dates()),
        (pa.duration("us"), st.timedeltas(datetime.timedelta(-9), datetime.timedelta(9))),
    ],
)
@given(data=st.data())
def test_places_of_derived_rows_sort_as_their_keys_with_null_last(
    kind: pa.DataType, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    keys = data.draw(st.lists(st.one_of(st.none(), values), min_size=1, max_size=8))

    texts = key_text(pa.table({"k": pa.array(keys, kind)}), ["k"]).to_pylist()

    by_text = [keys[at].encode() if isinstance(keys[at], str) else keys[at] for at in np.argsort(texts, kind="stable")]
    sortable = [key.encode() if isinstance(key, str) else key for key in keys]
    assert by_text == sorted(sortable, key=lambda key: (key is None, 0 if key is None else key))


def test_partitions_compare_by_source_topic_and_number() -> None:
    ordered = [("a", "t-2"), ("a", "t-10"), ("a", "t-b-0"), ("b", "9"), ("b", "10"), ("b", "path/file.json")]

    texts = [partition_text(source, partition) for source, partition in ordered]

    assert texts == sorted(texts)
    assert len(set(texts)) == len(texts)


rows = st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.integers(0, 2)), min_size=1, max_size=15)


@settings(deadline=None)
@given(rows=rows)
def test_order_is_by_time_place_and_offset_then_as_rows_came_and_survives_storage(
    rows: list[tuple[int, str, int]],
) -> None:
    at, names, offsets = zip(*rows, strict=True)
    places = Places.of(pa.array(names, pa.large_string()), np.array(offsets))
    wanted = sorted(range(len(rows)), key=lambda k: (*rows[k], k))

    order = places.of_rows(np.arange(len(rows)), np.array(at))

    assert order.sorted().tolist() == wanted
    assert Order.stored(order.take(pa.array(range(len(rows)), pa.int64()))).sorted().tolist() == wanted


def test_rows_of_unknown_origin_come_first_at_their_time() -> None:
    places = Places.of(pa.array(["p", "q"], pa.large_string()), np.array([5, 6]))

    order = places.of_rows(np.array([1, -1, 0]), np.array([3, 3, 3]))

    assert order.sorted().tolist() == [1, 2, 0]
    assert NOWHERE.of_rows(None, np.array([2, 1])).sorted().tolist() == [1, 0]
