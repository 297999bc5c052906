"""pandas as oracle: the same steps on a stream, cut into batches, and on the whole frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd

import microstream as ms

WORDS = st.sampled_from(["", "a", "a b", "Ab-1", " x ", "2000", "Zürich", "ß"])
TIMES = st.datetimes(pd.Timestamp("1950-01-01").to_pydatetime(), pd.Timestamp("2090-01-01").to_pydatetime())
GAPS = st.timedeltas(pd.Timedelta("-3D").to_pytimedelta(), pd.Timedelta("400D").to_pytimedelta())
SMALL = st.integers(-3, 3)
DTYPES = {
    "i": "int64",
    "n": "Int64",
    "f": "float64",
    "b": "bool",
    "m": "boolean",
    "s": "str",
    "t": "datetime64[us]",
    "d": "timedelta64[us]",
}


@st.composite
def frames(draw: st.DrawFn, min_size: int = 0) -> pd.DataFrame:
    """Rows of every plain kind; `row` numbers them."""
    kinds = {
        "i": SMALL,
        "n": st.none() | SMALL,
        "f": st.none() | st.sampled_from([0.0, -1.5, 0.25, 2.0, 3.0]),
        "b": st.booleans(),
        "m": st.none() | st.booleans(),
        "s": st.none() | WORDS,
        "t": st.none() | TIMES,
        "d": st.none() | GAPS,
    }
    rows = draw(st.lists(st.fixed_dictionaries(kinds), min_size=min_size, max_size=6))
    columns = {name: pd.array([row[name] for row in rows], dtype=kind) for name, kind in DTYPES.items()}
    return pd.DataFrame({"row": np.arange(len(rows)), **columns})


def streamed(build: Callable[[Any], Any], data: pd.DataFrame, batches: int) -> pd.DataFrame:
    """What `build` gives of the stream of `data`, in the order of its rows where they are still numbered."""
    found = build(ms.from_pandas(data, batches=batches)).compute()
    return found.sort_values("row", ignore_index=True, kind="stable") if "row" in found.columns else found


def assert_same(build: Callable[[Any], Any], data: pd.DataFrame, batches: int) -> None:
    """The steps of `build` give on a stream what they give in pandas: names, rows and values."""
    found = streamed(build, data, batches)
    wanted = build(data)
    wanted = wanted.sort_values("row", ignore_index=True, kind="stable") if "row" in wanted.columns else wanted
    assert list(found.columns) == list(wanted.columns)
    for name in wanted.columns:
        assert plain(found[name]) == plain(wanted[name]), name


def plain(values: pd.Series[Any]) -> list[Any]:
    """Values as Python writes them; a null is None, whatever kind of null it was."""
    return [_plain(value) for value in values.astype(object)]


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return None
    if isinstance(value, pd.Timestamp | pd.Timedelta):
        return value.as_unit("us").isoformat()
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | float | np.number):
        return round(float(value), 9)
    return value
