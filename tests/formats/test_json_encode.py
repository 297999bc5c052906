"""Encoding is exact, and what is written can be read again."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import math
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings

from microstream.errors import PlanError
from microstream.formats.json import JsonDecoder
from microstream.formats.json_encode import check_rows, encode_rows

TIME = pa.timestamp("us")
KINDS = {
    "n": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "u": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "f": (pa.float64(), st.floats()),
    "b": (pa.bool_(), st.booleans()),
    "s": (pa.large_string(), st.text()),
    "t": (TIME, st.datetimes(min_value=datetime.datetime(1, 1, 2))),
    "d": (pa.date32(), st.dates()),
    "dec": (pa.decimal128(20, 2), st.integers(-(10**19), 10**19).map(lambda n: decimal.Decimal(n).scaleb(-2))),
    "raw": (pa.large_binary(), st.binary(max_size=5)),
    "clock": (pa.time64("us"), st.times()),
    "l": (pa.list_(TIME), st.lists(st.none() | st.datetimes(min_value=datetime.datetime(1, 1, 2)), max_size=3)),
    "o": (
        pa.struct([pa.field("x", pa.float64()), pa.field("t", TIME)]),
        st.fixed_dictionaries(
            {
                "x": st.none() | st.floats(allow_nan=False, allow_infinity=False),
                "t": st.none() | st.datetimes(datetime.datetime(1, 1, 2)),
            }
        ),
    ),
    "lines": (
        pa.list_(pa.struct([pa.field("raw", pa.large_binary()), pa.field("days", pa.list_(pa.date32()))])),
        st.lists(
            st.none()
            | st.fixed_dictionaries(
                {
                    "raw": st.none() | st.binary(max_size=3),
                    "days": st.none() | st.lists(st.none() | st.dates(), max_size=2),
                }
            ),
            max_size=2,
        ),
    ),
}
SCHEMA = pa.schema([pa.field(name, kind) for name, (kind, _) in KINDS.items()])
rows = st.lists(
    st.fixed_dictionaries({name: st.none() | made for name, (_, made) in KINDS.items()}), min_size=1, max_size=6
)


def expected(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case datetime.datetime():
            return value.isoformat(timespec="microseconds") + "Z"
        case datetime.time():
            return value.isoformat(timespec="microseconds")
        case bytes():
            return base64.b64encode(value).decode()
        case datetime.date():
            return value.isoformat()
        case decimal.Decimal():
            return f"{value:.2f}"
        case list():
            return [expected(item) for item in value]
        case dict():
            return {name: expected(item) for name, item in value.items()}
        case _:
            return value


@settings(deadline=None, max_examples=150)
@given(made=rows)
def test_every_row_is_the_json_object_of_its_columns(made: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(made, schema=SCHEMA)

    found = [json.loads(value) for value in encode_rows(table).to_pylist()]

    assert found == [expected(row) for row in made]
    assert [list(row) for row in found] == [SCHEMA.names] * len(made)


@settings(deadline=None, max_examples=100)
@given(made=rows)
def test_what_is_written_can_be_read_again(made: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(made, schema=SCHEMA)

    found = JsonDecoder(SCHEMA).decode(encode_rows(table).to_pylist())

    assert found.bad == ()
    assert found.table.to_pylist() == [
        row | {"f": row["f"] if row["f"] is not None and math.isfinite(row["f"]) else None} for row in table.to_pylist()
    ]


def test_no_rows_give_no_messages() -> None:
    empty = SCHEMA.empty_table()

    assert len(encode_rows(empty)) == 0


@pytest.mark.parametrize(
    "kind", [pa.decimal256(50, 2), pa.duration("us"), pa.list_(pa.duration("s")), pa.struct([("x", pa.duration("us"))])]
)
def test_columns_without_a_json_form_are_refused_when_the_plan_is_built(kind: pa.DataType) -> None:
    with pytest.raises(PlanError, match="has no JSON form"):
        check_rows(pa.schema([pa.field("raw", kind)]))
