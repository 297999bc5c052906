from __future__ import annotations

import datetime
import decimal
import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.errors import PlanError
from microstream.state.hashing import GOLDEN, NULL_HASH, check_keys, hash_keys


def hashes(values: list[Any], kind: pa.DataType) -> list[int]:
    return [int(h) for h in hash_keys(pa.table({"k": pa.array(values, kind)}), ["k"])]


@pytest.mark.parametrize(("key", "expected"), GOLDEN)
def test_golden_keys_hash_as_stored_checkpoints_say(key: str | int, expected: int) -> None:
    kind = pa.large_string() if isinstance(key, str) else pa.int64()

    assert hashes([key], kind) == [expected]


@pytest.mark.parametrize(
    ("value", "kinds"),
    [
        (-1, [pa.int8(), pa.int32(), pa.int64()]),
        (200, [pa.uint8(), pa.uint32(), pa.uint64(), pa.int64()]),
        (1.5, [pa.float16(), pa.float32(), pa.float64()]),
        ("käse", [pa.string(), pa.large_string()]),
        (b"\x00\xff", [pa.binary(), pa.large_binary(), pa.binary(2)]),
        (datetime.datetime(1969, 12, 31, 23), [pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")]),
        (datetime.timedelta(seconds=-3), [pa.duration(unit) for unit in ("s", "ms", "us", "ns")]),
        (datetime.time(1, 2, 3), [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")]),
        (datetime.date(1969, 12, 31), [pa.date32(), pa.date64()]),
        (decimal.Decimal("1.50"), [pa.decimal128(9, 2), pa.decimal128(30, 2)]),
    ],
)
def test_equal_keys_of_related_types_hash_alike(value: Any, kinds: list[pa.DataType]) -> None:
    found = {hashes([value], kind)[0] for kind in kinds}

    assert len(found) == 1
    assert NULL_HASH not in found


@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.float64(), pa.large_string(), pa.timestamp("us"), pa.bool_(), pa.date32()]
)
def test_null_keys_hash_to_one_constant_whatever_their_type(kind: pa.DataType) -> None:
    assert hashes([None, None], kind) == [NULL_HASH, NULL_HASH]


def test_nan_hashes_as_null_and_minus_zero_as_zero() -> None:
    nan, zero, minus_zero = hashes([math.nan, 0.0, -0.0], pa.float64())

    assert nan == NULL_HASH
    assert zero == minus_zero


@settings(deadline=None, max_examples=50)
@given(rows=st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.text(max_size=5), st.floats(-9, -1)), max_size=20))
def test_several_columns_combine_as_in_pandas(rows: list[tuple[int, str, float]]) -> None:
    whole, text, real = ([row[at] for row in rows] for at in range(3))
    table = pa.table(
        {"i": pa.array(whole, pa.int64()), "s": pa.array(text, pa.string()), "f": pa.array(real, pa.float64())}
    )
    frame = pd.DataFrame({"i": np.array(whole, "int64"), "s": pd.array(text, "str"), "f": np.array(real, "f8")})

    ours = hash_keys(table, ["i", "s", "f"])

    assert ours.tolist() == pd.util.hash_pandas_object(frame, index=False, categorize=False).tolist()


@settings(deadline=None, max_examples=50)
@given(keys=st.lists(st.integers(0, 99), min_size=1, max_size=30), bits=st.integers(0, 64))
def test_fewer_bits_keep_the_high_ones(keys: list[int], bits: int) -> None:
    table = pa.table({"k": keys})

    short = hash_keys(table, ["k"], bits=bits)

    assert short.tolist() == [int(h) >> (64 - bits) << (64 - bits) for h in hash_keys(table, ["k"])]


def test_true_hashes_as_one() -> None:
    assert hashes([True], pa.bool_()) == hashes([1], pa.int64())


def test_no_keys_at_all_are_one_group() -> None:
    assert hash_keys(pa.table({"x": [1, 2]}), []).tolist() == [0, 0]


@pytest.mark.parametrize(
    "kind", [pa.struct([("a", pa.int64())]), pa.list_(pa.int64()), pa.map_(pa.string(), pa.int8())]
)
def test_nested_columns_cannot_be_keys(kind: pa.DataType) -> None:
    with pytest.raises(PlanError, match="cannot be a key"):
        check_keys(pa.schema([("where", kind)]), ["where"])
