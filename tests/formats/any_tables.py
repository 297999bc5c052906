"""Tables of every kind of column, for laws that hold for each format."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa

__all__ = ["KINDS", "SCHEMA", "rows", "table_of"]

TIME = pa.timestamp("us")
times = st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9998, 1, 1))
LINE = pa.struct([pa.field("raw", pa.large_binary()), pa.field("at", TIME), pa.field("n", pa.int64())])
lines = st.fixed_dictionaries(
    {"raw": st.none() | st.binary(max_size=3), "at": st.none() | times, "n": st.none() | st.integers(-9, 9)}
)

KINDS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "n": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "i": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "f": (pa.float64(), st.floats(allow_nan=False)),
    "g": (pa.float32(), st.floats(allow_nan=False, width=32)),
    "b": (pa.bool_(), st.booleans()),
    "s": (pa.large_string(), st.text(max_size=5)),
    "raw": (pa.large_binary(), st.binary(max_size=5)),
    "t": (TIME, times),
    "d": (pa.date32(), st.dates()),
    "clock": (pa.time64("us"), st.times()),
    "dec": (pa.decimal128(20, 2), st.integers(-(10**19), 10**19).map(lambda n: decimal.Decimal(n).scaleb(-2))),
    "l": (pa.list_(pa.int64()), st.lists(st.none() | st.integers(-99, 99), max_size=3)),
    "o": (LINE, lines),
    "lines": (pa.list_(LINE), st.lists(st.none() | lines, max_size=2)),
}
SCHEMA = pa.schema(
    [pa.field("id", pa.int64(), nullable=False), *(pa.field(name, kind) for name, (kind, _) in KINDS.items())]
)
rows = st.lists(
    st.fixed_dictionaries(
        {"id": st.integers(-99, 99), **{name: st.none() | made for name, (_, made) in KINDS.items()}}
    ),
    max_size=6,
)


def table_of(made: list[dict[str, Any]], schema: pa.Schema = SCHEMA) -> pa.Table:
    """The columns of `schema` of the rows."""
    return pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in made], schema=schema)
