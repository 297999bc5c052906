"""Tables of random rows, with and without nulls, of every kind of column."""

from __future__ import annotations

import datetime

import hypothesis.strategies as st
import pyarrow as pa

from microstream.plan.dtypes import parse_schema

SCHEMA = parse_schema(
    {
        "i": "int64",
        "j": "Int64",
        "f": "float64",
        "b": "bool",
        "m": "boolean",
        "s": "str",
        "t": "datetime64",
        "tags": "list[str]",
    }
)
INT64 = st.integers(-(2**63), 2**63 - 1)
SMALL = st.integers(-3, 3)
FLOATS = st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 1.0, 2.5])
TIMES = st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2100, 1, 1))
WORDS = st.sampled_from(["", "a", "a b", "2000", "Zürich"])


def rows(*, ints: st.SearchStrategy[int] = INT64 | SMALL) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries(
        {
            "i": ints,
            "j": st.none() | ints,
            "f": st.none() | FLOATS,
            "b": st.booleans(),
            "m": st.none() | st.booleans(),
            "s": st.none() | WORDS,
            "t": st.none() | TIMES,
            "tags": st.none() | st.lists(WORDS, max_size=3),
        }
    )


def tables(*, min_size: int = 0, ints: st.SearchStrategy[int] = INT64 | SMALL) -> st.SearchStrategy[pa.Table]:
    return st.lists(rows(ints=ints), min_size=min_size, max_size=6).map(
        lambda some: pa.Table.from_pylist(some, schema=SCHEMA)
    )
