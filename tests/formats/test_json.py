"""Message i is row i, for every input; and good is what an independent JSON parser reads from it."""

from __future__ import annotations

import base64
import binascii
import datetime
import decimal
import json
from typing import Any

import hypothesis.strategies as st
import orjson
import pyarrow as pa
import pytest
from hypothesis import example, given, settings

from microstream.errors import PlanError
from microstream.formats.json import JsonDecoder

EPOCH_MS = {"microstream": "epoch[ms]"}
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("small", pa.int8()),
        pa.field("big", pa.uint64()),
        pa.field("price", pa.float64()),
        pa.field("ok", pa.bool_()),
        pa.field("name", pa.large_string()),
        pa.field("at", pa.timestamp("us"), metadata=EPOCH_MS),
        pa.field("when", pa.timestamp("us")),
        pa.field("day", pa.date32()),
        pa.field("clock", pa.time64("us")),
        pa.field("raw", pa.large_binary()),
        pa.field("cost", pa.decimal128(8, 2)),
        pa.field("seen", pa.list_(pa.field("item", pa.timestamp("us"), metadata=EPOCH_MS))),
        pa.field("lines", pa.list_(pa.struct([pa.field("raw", pa.large_binary()), pa.field("n", pa.int64())]))),
        pa.field("tags", pa.list_(pa.large_string())),
        pa.field("place", pa.struct([pa.field("x", pa.int64(), nullable=False), pa.field("t", pa.timestamp("us"))])),
    ]
)
DECODER = JsonDecoder(SCHEMA)

texts = st.text(max_size=8)
numbers = st.one_of(st.integers(-300, 300), st.integers(-(2**64), 2**64), st.floats(allow_nan=False, width=64))
times = st.one_of(
    st.datetimes(min_value=datetime.datetime(1, 1, 2), max_value=datetime.datetime(9998, 1, 1)).map(
        datetime.datetime.isoformat
    ),
    st.sampled_from(["2026-01-02", "2026-01-02T03:04:05Z", "2026-01-02 03:04:05.123456789+02:00", "2026-02-30", ""]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts, times)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)


def python_can_show(milliseconds: object) -> bool:
    """Whether a time is one for Python's datetime, or none at all: Arrow's years go further than 1 to 9999."""
    if not isinstance(milliseconds, int) or abs(milliseconds) * 1000 >= 2**63:
        return True
    return -62_135_596_800_000 <= milliseconds <= 253_402_300_799_999


documents = st.fixed_dictionaries(
    {"id": st.one_of(st.integers(-(2**63), 2**63 - 1), values)},
    optional={
        "small": st.one_of(st.integers(-129, 128), values),
        "big": st.one_of(st.integers(-1, 2**64), values),
        "price": st.one_of(numbers, values),
        "ok": st.one_of(st.booleans(), values),
        "name": st.one_of(texts, values),
        "at": st.one_of(st.integers(-(2**62), 2**62), values),
        "when": st.one_of(times, values),
        "day": st.one_of(times, values),
        "clock": st.one_of(st.times().map(datetime.time.isoformat), values),
        "raw": st.one_of(st.binary(max_size=4).map(base64.b64encode).map(bytes.decode), values),
        "cost": st.one_of(st.decimals(-(10**7), 10**7, places=2).map(str), st.integers(-(10**6), 10**6), values),
        "seen": st.one_of(st.lists(st.none() | st.integers(-(2**40), 2**40), max_size=3), values),
        "lines": st.one_of(
            st.lists(
                st.none()
                | st.fixed_dictionaries({}, optional={"raw": st.sampled_from(["", "YQ==", "?"]), "n": numbers}),
                max_size=3,
            ),
            values,
        ),
        "tags": st.one_of(st.lists(st.none() | texts, max_size=3), values),
        "place": st.one_of(st.fixed_dictionaries({"x": numbers | st.none()}, optional={"t": times}), values),
        "unknown": values,
    },
).filter(lambda document: python_can_show(document.get("at")))
written = st.tuples(documents, st.booleans(), st.sampled_from([None, 2])).map(
    lambda made: json.dumps(made[0], ensure_ascii=made[1], indent=made[2]).encode("utf-8", "surrogatepass")
)
ODD = [
    b"",
    b" ",
    b"\n",
    b"{}",
    b"null",
    b"1",
    b'"{}"',
    b"[1]",
    b"[{}]",
    b'{"id":1}{"id":2}',
    b'{"id":1}\n{"id":2}',
    b'{"id":1} {"id":2} {"id":3}',
    b'{"id":1},',
    b'{"id":',
    b'{"id":1',
    b"1}",
    b'{"x":[{"id":1}',
    b'{"id":1}]}',
    b'{"id":1}\0',
    b'{"id":1}\0}',
    b'{"id":1,"name":"a\0b"}',
    b'{"id":1,"name":"\\u0000"}',
    b'{"id":1,"name":"a\nb"}',
    b'{"id":1,"name":"}\n{"}',
    b'{"id":1,"name":"}',
    b'{"id":1,"name":"\xff"}',
    b'{"id":1,"unknown":"\xff"}',
    b'{"id":1,"name":"\\ud800"}',
    b'{"id":1,"name":"\xf0\x9f\x98\x80"}',
    b'\xef\xbb\xbf{"id":1}',
    b'  {"id":1}\r\n',
    b'{"id":1,"id":2}',
    b'{"id":null,"id":2}',
    b'{"id":1,"unknown":1,"unknown":2}',
    b'{"id":1,"place":{"x":1,"x":2}}',
    b'{"id":1,"price":NaN}',
    b'{"id":1,"price":-Infinity}',
    b'{"id":1,"price":Inf}',
    b'{"id":NaN}',
    b'{"id":1,"unknown":NaN}',
    b'{"id":1,"unknown":1e999}',
    b'{"id":1,"price":1e999}',
    b'{"id":1.0}',
    b'{"id":1e2}',
    b'{"id":-0}',
    b'{"id":01}',
    b'{"id":"1"}',
    b'{"id":true}',
    b'{"id":9223372036854775808}',
    b'{"id":1,"big":18446744073709551615}',
    b'{"id":1,"at":99999999999999999}',
    b'{"id":1,"at":1.5}',
    b'{"id":1,"when":"now"}',
    b'{"id":1,"when":"2026-01-02T03:04:05.123456789"}',
    b'{"id":1,"when":"2026-01-02T03:04:05.1234567Z","day":"2026-13-01"}',
    b'{"id":1,"tags":["a",1]}',
    b'{"id":1,"tags":{}}',
    b'{"id":1,"place":{}}',
    b'{"id":1,"place":{"x":null}}',
    b'{"id":1,"place":null}',
    b'{"id":1,"unknown":' + b"[" * 2000 + b"]" * 2000 + b"}",
    b'{"id":1,"unknown":' + b"[" * 2000 + b"}",
    b'{"id":1,/* no */"name":"x"}',
    b'{"id":1,}',
    b"{'id':1}",
]
messages = st.lists(st.one_of(written, st.sampled_from(ODD), st.binary(max_size=6)), max_size=12)


def rows_and_bad(found: Any) -> tuple[list[dict[str, Any]], list[int]]:
    return found.table.to_pylist(), [index for index, _ in found.bad]


@settings(deadline=None, max_examples=200)
@given(batch=messages)
@example(batch=[b'{"id":1}{"id":2}', b'{"x":', b'{"id":3}}'])
@example(batch=[b'{"id":1}{"id":2}', b'{"id":3}\0}', b'{"id":4}'])
@example(batch=[b'{"id":1}\n{"id":2}', b"", b'{"id":3}'])
def test_decoding_all_at_once_is_decoding_each_by_itself(batch: list[bytes]) -> None:
    singly = [DECODER.decode([message]) for message in batch]

    together = DECODER.decode(batch)

    rows, bad = rows_and_bad(together)
    assert rows == [row for each in singly for row in each.table.to_pylist()]
    assert bad == [index for index, each in enumerate(singly) if each.bad]
    assert together.table.schema == SCHEMA
    together.table.validate(full=True)


@settings(deadline=None, max_examples=200)
@given(document=documents)
def test_good_is_what_an_independent_reader_accepts(document: dict[str, Any]) -> None:
    message = json.dumps(document).encode()
    expected = expected_row(document)

    found = DECODER.decode([message])

    assert found.table.to_pylist() == ([] if expected is None else [expected])


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd[:40]))
def test_an_odd_message_costs_only_itself(odd: bytes) -> None:
    neighbours = [b'{"id":%d}' % n for n in range(5)]

    found = DECODER.decode([*neighbours[:2], odd, *neighbours[2:]])

    rows, bad = rows_and_bad(found)
    ids = [row["id"] for row in rows]
    assert ids == [0, 1, 2, 3, 4] if bad else (ids[:2], ids[3:]) == ([0, 1], [2, 3, 4])
    assert bad in ([], [2])


@pytest.mark.parametrize(
    "message",
    [odd for odd in ODD if odd.startswith((b'{"id":1}{', b'{"id":1}\n', b'{"id":1} {', b'{"id":1}\0', b'{"id":1},'))],
)
def test_a_message_is_one_object_and_nothing_more(message: bytes) -> None:
    found = DECODER.decode([message])

    assert rows_and_bad(found) == ([], [0])


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b'{"id":"7"}', "id is '7', not int64"),
        (b'{"id":1,"small":128}', "small is 128, not int8"),
        (b'{"id":1,"tags":["a",2]}', "tags[1] is 2, not text"),
        (b'{"id":1,"place":{"x":true}}', "place.x is True, not int64"),
        (b"{}", "id is null or missing, but declared not null"),
        (b'{"id":1,"when":"yesterday"}', "when is 'yesterday', not timestamp[us]"),
        (b'{"id":1,"raw":"a?"}', "raw is 'a?', not large_binary"),
        (b'{"id":1,"clock":"25:00"}', "clock is '25:00', not time64[us]"),
        (b'{"id":1,"cost":true}', "cost is True, not decimal128(8, 2)"),
        (b'{"id":1,"cost":"1.234"}', "Failed to convert JSON to decimal128(8, 2): 1.234 requires scale 3"),
        (b"[1,2]", "the record is [1, 2], not an object"),
    ],
)
def test_the_reason_names_the_field_and_shows_the_value(message: bytes, reason: str) -> None:
    found = DECODER.decode([b'{"id":0}', message])

    assert found.bad == ((1, reason),)


@pytest.mark.parametrize(
    ("unit", "number", "expected_us"),
    [("s", 3, 3_000_000), ("ms", -1, -1_000), ("us", 5, 5), ("ns", 1_999, 1), ("ns", -1, -1)],
)
def test_numbers_are_times_in_the_declared_unit(unit: str, number: int, expected_us: int) -> None:
    schema = pa.schema([pa.field("t", pa.timestamp("us"), metadata={"microstream": f"epoch[{unit}]"})])

    found = JsonDecoder(schema).decode([b'{"t":%d}' % number, b'{"t":null}'])

    assert found.table["t"].cast(pa.int64()).to_pylist() == [expected_us, None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04:05", "2026-01-02T03:04:05"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05"),
        ("2026-01-02T03:04:05.5+02:00", "2026-01-02T01:04:05.500000"),
        ("2026-01-02 03:04:05-0130", "2026-01-02T04:34:05"),
        ("2026-01-02", "2026-01-02T00:00:00"),
        ("2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05.123456"),
    ],
)
def test_text_is_a_time_in_utc_unless_it_names_another_zone(text: str, expected: str) -> None:
    schema = pa.schema([pa.field("t", pa.timestamp("us"))])
    mixed = [orjson.dumps({"t": text}), b'{"t":"1999-12-31T23:59:59Z"}', b'{"t":"1999-12-31"}']

    found = JsonDecoder(schema).decode(mixed)

    assert found.table["t"][0].as_py().isoformat() == expected
    assert found.bad == ()


def test_an_event_time_that_is_null_or_too_far_ahead_makes_a_bad_record() -> None:
    schema = pa.schema([pa.field("t", pa.timestamp("us"), metadata=EPOCH_MS)])

    found = JsonDecoder(schema, "t").decode([b'{"t":1}', b"{}", b'{"t":3}', b'{"t":2}'], latest_us=2_000)

    assert found.table["t"].cast(pa.int64()).to_pylist() == [1_000, 2_000]
    assert [index for index, _ in found.bad] == [1, 2]
    assert "null" in found.bad[0][1]
    assert "max_ahead" in found.bad[1][1]


def test_nan_is_null_and_forbidden_where_null_is() -> None:
    schema = pa.schema([pa.field("a", pa.float64()), pa.field("b", pa.float64(), nullable=False)])

    found = JsonDecoder(schema).decode([b'{"a":NaN,"b":1}', b'{"a":1,"b":NaN}'])

    assert rows_and_bad(found) == ([{"a": None, "b": 1.0}], [1])


def test_rows_are_counted_even_if_no_column_is_needed() -> None:
    found = JsonDecoder(pa.schema([])).decode([b'{"a":1}', b"{", b"{}"])

    assert found.table.num_rows == 2
    assert [index for index, _ in found.bad] == [1]


def test_a_type_that_json_does_not_have_is_refused_at_once() -> None:
    with pytest.raises(PlanError, match="'wait' has type duration"):
        JsonDecoder(pa.schema([pa.field("wait", pa.duration("us"))]))


def expected_row(document: dict[str, Any]) -> dict[str, Any] | None:
    """The row by plain Python, or None for a bad record."""
    try:
        row = {field.name: expected_value(document.get(field.name), field) for field in SCHEMA}
    except ValueError:
        return None
    return row


def expected_value(value: Any, field: Any) -> Any:
    kind = field.type
    if value is None:
        if not field.nullable:
            raise ValueError(field.name)
        return None
    if kind == pa.timestamp("us"):
        return time_of_number(value) if field.metadata else time_of_text(value)
    if kind == pa.date32():
        return date_of(value)
    if kind == pa.time64("us"):
        return time_of_day(value)
    if kind == pa.large_binary():
        return bytes_of(value)
    if pa.types.is_decimal(kind):
        return decimal_of(value)
    if pa.types.is_list(kind):
        return [expected_value(item, kind.value_field) for item in require(value, list)]
    if pa.types.is_struct(kind):
        return {child.name: expected_value(require(value, dict).get(child.name), child) for child in kind}
    if pa.types.is_integer(kind):
        low, high = (0, 2**64) if kind == pa.uint64() else (-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1))
        if isinstance(value, bool) or not low <= require(value, int) < high:
            raise ValueError(value)
        return value
    if pa.types.is_floating(kind):
        if isinstance(value, bool):
            raise ValueError(value)
        return float(require(value, int, float))
    return require(value, bool if pa.types.is_boolean(kind) else str)


def require(value: Any, *kinds: type) -> Any:
    if not isinstance(value, kinds):
        raise ValueError(value)
    return value


def time_of_number(value: Any) -> datetime.datetime:
    if isinstance(value, bool) or abs(require(value, int)) * 1000 >= 2**63:
        raise ValueError(value)
    return pa.scalar(value * 1000, pa.timestamp("us")).as_py()


def time_of_text(value: Any) -> datetime.datetime:
    text = require(value, str)
    if len(text) < 10:
        raise ValueError(value)
    if text == "2026-01-02 03:04:05.123456789+02:00":
        return datetime.datetime(2026, 1, 2, 1, 4, 5, 123456)
    moment = datetime.datetime.fromisoformat(text)
    return moment if moment.tzinfo is None else moment.astimezone(datetime.UTC).replace(tzinfo=None)


def time_of_day(value: Any) -> datetime.time:
    if len(require(value, str)) < 5:
        raise ValueError(value)
    moment = datetime.time.fromisoformat(value)
    if moment.tzinfo is not None:
        raise ValueError(value)
    return moment


def bytes_of(value: Any) -> bytes:
    try:
        return base64.b64decode(require(value, str), validate=True)
    except binascii.Error as problem:
        raise ValueError(value) from problem


def decimal_of(value: Any) -> decimal.Decimal:
    if isinstance(value, bool):
        raise ValueError(value)
    try:
        number = decimal.Decimal(str(require(value, int, float, str)))
    except decimal.InvalidOperation as problem:
        raise ValueError(value) from problem
    cents = number.scaleb(2)
    if not number.is_finite() or cents != cents.to_integral_value() or abs(cents) >= 10**8:
        raise ValueError(value)
    return number


def date_of(value: Any) -> datetime.date:
    if len(require(value, str)) != 10:
        raise ValueError(value)
    return datetime.date.fromisoformat(value)
