"""A key is the same bytes for the same values."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pyarrow as pa
import pytest

from microstream.errors import PlanError
from microstream.formats.keys import check_key, encode_keys

TIME = pa.timestamp("us")


@pytest.mark.parametrize(
    ("values", "kind", "keys"),
    [
        ([1, None, -(2**63)], pa.int64(), [b"1", None, b"-9223372036854775808"]),
        (["é", "", None], pa.large_string(), ["é".encode(), b"", None]),
        ([True, False], pa.bool_(), [b"true", b"false"]),
        ([b"\xff\0", None], pa.large_binary(), [b"\xff\0", None]),
        ([datetime.datetime(2026, 1, 2, 3)], TIME, [b"2026-01-02T03:00:00.000000Z"]),
    ],
)
def test_a_key_is_the_text_of_its_column(values: list[Any], kind: pa.DataType, keys: list[bytes | None]) -> None:
    table = pa.table({"key": pa.array(values, kind)})

    found = encode_keys(table).to_pylist()

    assert found == keys


def test_several_columns_are_a_json_object_in_the_order_they_are_named() -> None:
    table = pa.table({"user": ["é", None], "shop": [7, 8], "price": [1.0, 2.0]})

    found = encode_keys(table.select(["shop", "user"])).to_pylist()

    assert [json.loads(key) for key in found if key] == [{"shop": 7, "user": "é"}, {"shop": 8, "user": None}]
    assert found[0].startswith(b'{"shop"')


def test_no_rows_give_no_keys() -> None:
    empty = pa.table({"n": pa.array([], pa.int64())})

    assert len(encode_keys(empty)) == 0


def test_a_nested_column_is_no_key() -> None:
    with pytest.raises(PlanError, match="a key is text"):
        check_key(pa.schema([pa.field("tags", pa.list_(pa.int64()))]))
