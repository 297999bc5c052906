from __future__ import annotations

import hypothesis.strategies as st
import pandas as pd
import pyarrow as pa
from hypothesis import given, settings

from microstream.plan.kernels import Vector
from microstream.plan.splitting import split

WHITESPACE = "".join(chr(code) for code in range(0x110000) if chr(code).isspace())
TEXTS = st.none() | st.text(st.sampled_from(["a", "é", ",", *WHITESPACE]), max_size=8)
ASCII = st.none() | st.text(st.sampled_from("ab, \t\n\x1c\x1f"), max_size=8)


def arrow(texts: list[str | None], first: int) -> Vector:
    """`texts` behind `first` others, in two chunks."""
    array = pa.array(["é\x1c", *["x y"] * first, *texts], pa.large_string())[1 + first :]
    middle = len(texts) // 2
    return Vector(pa.chunked_array([array[:middle], array[middle:]], pa.large_string()), "str")


def by_pandas(texts: list[str | None], pattern: str | None) -> list[list[str] | None]:
    found = pd.Series(texts, dtype="str").str.split(pattern)
    return [None if isinstance(parts, float) else list(parts) for parts in found]


@given(texts=st.lists(TEXTS) | st.lists(ASCII), first=st.integers(0, 2), pattern=st.sampled_from([None, ",", " ", "é"]))
@settings(deadline=None)
def test_texts_are_split_as_pandas_splits_them(texts: list[str | None], first: int, pattern: str | None) -> None:
    found = split([arrow(texts, first), *([] if pattern is None else [pattern])])

    assert found is not None
    assert found.array.to_pylist() == by_pandas(texts, pattern)


def test_what_pandas_takes_for_a_regular_expression_is_left_to_pandas() -> None:
    texts = arrow(["a, b"], 0)

    assert split([texts, r"\s+"]) is None
    assert split([texts, ""]) is None
    assert split([Vector(pa.array([1]), "int64")]) is None
