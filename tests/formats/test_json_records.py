"""Records of few flat fields are read one by one, all others in blocks: that nobody can tell."""

from __future__ import annotations

import decimal
import json

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from test_json import ODD, SCHEMA, written

from microstream.formats.json import JsonDecoder

NARROW = pa.schema([SCHEMA.field(name) for name in ("id", "price", "ok", "name", "small")])
WIDE = pa.schema([*NARROW, *(pa.field(f"more{at}", pa.large_string()) for at in range(5))])
mutated = st.tuples(
    st.sampled_from([*ODD, b'{"id":12,"price":-1.5e3,"name":"x\\u00e9","u":[1,{"k":"v"}],"ok":true,"small":-7}']),
    st.integers(0, 80),
    st.sampled_from([bytes([n]) for n in b'{}[]":,\\/019.eE+-tn \n\0\x7f\x80\xc3']) | st.just(b""),
    st.booleans(),
).map(lambda made: made[0][: made[1]] + made[2] + made[0][made[1] + made[3] :])


@settings(deadline=None, max_examples=300)
@given(batch=st.lists(st.one_of(written, mutated), max_size=12))
@example(batch=[b'{"id":1,"price":-0}', b'{"id":1,"price":-0.0}'])
@example(batch=[b'{"id":1,"name":"a","name":"b"}', b'{"id":2,"unknown":"\xff"}', b'{"id":3,"price":NaN}'])
def test_what_becomes_of_a_message_does_not_depend_on_how_many_fields_are_wanted(batch: list[bytes]) -> None:
    few = JsonDecoder(NARROW).decode(batch)

    many = JsonDecoder(WIDE).decode(batch)

    assert few.bad == many.bad
    assert few.table.equals(many.table.select(NARROW.names))
    assert str(few.table.to_pylist()) == str(many.table.select(NARROW.names).to_pylist())  # two zeros are equal
    assert few.table.schema == NARROW


@pytest.mark.parametrize("schema", [NARROW, WIDE], ids=["narrow", "wide"])
def test_of_a_field_that_is_given_twice_the_last_value_counts(schema: pa.Schema) -> None:
    found = JsonDecoder(schema).decode([b'{"id":0}', b'{"id":1,"price":1e999,"id":2}', b'{"id":null,"id":3}'])

    assert found.table["id"].to_pylist() == [0, 2, 3]
    assert found.table["price"].to_pylist() == [None, float("inf"), None]
    assert found.bad == ()


def test_a_field_that_is_given_twice_costs_no_digit_of_a_decimal() -> None:
    schema = pa.schema([("cost", pa.decimal128(30, 20)), ("price", pa.float64())])

    found = JsonDecoder(schema).decode([b'{"cost":1,"cost":0.12345678901234567890,"price":1e999,"x":[0.5]}'])

    assert found.table.to_pylist() == [{"cost": decimal.Decimal("0.12345678901234567890"), "price": float("inf")}]


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a b", "\u00e9"])
def test_a_field_may_have_any_name(name: str) -> None:
    schema = pa.schema([pa.field(name, pa.int64(), nullable=False)])

    found = JsonDecoder(schema).decode([json.dumps({name: 7}).encode()])

    assert found.table[name].to_pylist() == [7]
