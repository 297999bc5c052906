"""Every row-wise member of a column gives what it gives on a pandas Series, for every cut into batches."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from by_pandas import assert_same, frames, plain, streamed
from hypothesis import given, settings

import microstream as ms
from microstream.errors import PlanError
from microstream.frame.columns import Column
from microstream.frame.namespaces import Texts, Times
from microstream.plan.rowwise import ACCESSORS, METHODS

Build = Callable[[Any], Any]

STR: Mapping[str, Build] = {
    "capitalize": lambda s: s.str.capitalize(),
    "casefold": lambda s: s.str.casefold(),
    "center": lambda s: s.str.center(6, "*"),
    "contains": lambda s: s.str.contains("a", case=False, regex=False),
    "count": lambda s: s.str.count("a"),
    # A Series of nothing but nulls has no .str.decode in pandas.
    "decode": lambda s: s if isinstance(s, pd.Series) else s.str.encode("utf-8").str.decode("utf-8"),
    "encode": lambda s: s.str.encode("utf-8"),
    "endswith": lambda s: s.str.endswith(("b", "1")),
    "extract": lambda s: s.str.extract(r"(\d+)", expand=False),
    "find": lambda s: s.str.find("b"),
    "findall": lambda s: s.str.findall("[ab]"),
    "fullmatch": lambda s: s.str.fullmatch("a.*"),
    "get": lambda s: s.str.get(1),
    "index": lambda s: (s + "b").str.index("b"),
    "isalnum": lambda s: s.str.isalnum(),
    "isalpha": lambda s: s.str.isalpha(),
    "isascii": lambda s: s.str.isascii(),
    "isdecimal": lambda s: s.str.isdecimal(),
    "isdigit": lambda s: s.str.isdigit(),
    "islower": lambda s: s.str.islower(),
    "isnumeric": lambda s: s.str.isnumeric(),
    "isspace": lambda s: s.str.isspace(),
    "istitle": lambda s: s.str.istitle(),
    "isupper": lambda s: s.str.isupper(),
    "join": lambda s: s.str.join("-"),
    "len": lambda s: s.str.len(),
    "ljust": lambda s: s.str.ljust(4, "."),
    "lower": lambda s: s.str.lower(),
    "lstrip": lambda s: s.str.lstrip(),
    "match": lambda s: s.str.match("a"),
    "normalize": lambda s: s.str.normalize("NFD"),
    "pad": lambda s: s.str.pad(5, side="both"),
    "partition": lambda s: s.str.partition("-", expand=False),
    "removeprefix": lambda s: s.str.removeprefix("a"),
    "removesuffix": lambda s: s.str.removesuffix("b"),
    "repeat": lambda s: s.str.repeat(2),
    "replace": lambda s: s.str.replace("[ab]", "_", regex=True),
    "rfind": lambda s: s.str.rfind("a"),
    "rindex": lambda s: ("a" + s).str.rindex("a"),
    "rjust": lambda s: s.str.rjust(4),
    "rpartition": lambda s: s.str.rpartition(" ", expand=False),
    "rsplit": lambda s: s.str.rsplit(n=1),
    "rstrip": lambda s: s.str.rstrip("b "),
    "slice": lambda s: s.str[1:3],
    "slice_replace": lambda s: s.str.slice_replace(0, 1, "#"),
    "split": lambda s: s.str.split("-"),
    "startswith": lambda s: s.str.startswith("a"),
    "strip": lambda s: s.str.strip(),
    "swapcase": lambda s: s.str.swapcase(),
    "title": lambda s: s.str.title(),
    "translate": lambda s: s.str.translate({97: "o"}),
    "upper": lambda s: s.str.upper(),
    "wrap": lambda s: s.str.wrap(2),
    "zfill": lambda s: s.str.zfill(5),
}
TIME_PARTS = [
    "date", "day", "day_of_week", "day_of_year", "days_in_month", "hour", "is_leap_year", "is_month_end",
    "is_month_start", "is_quarter_end", "is_quarter_start", "is_year_end", "is_year_start", "microsecond", "minute",
    "month", "nanosecond", "quarter", "second", "year",
]  # fmt: skip
OLD_NAMES = {"dayofweek", "dayofyear", "daysinmonth", "weekday"}
GAP_PARTS = ["days", "microseconds", "nanoseconds", "seconds"]
DT: Mapping[str, Build] = {
    **{name: (lambda c, name=name: getattr(c["t"].dt, name)) for name in TIME_PARTS},
    **{name: (lambda c, name=name: getattr(c["d"].dt, name)) for name in GAP_PARTS},
    "ceil": lambda c: c["t"].dt.ceil("1h"),
    "floor": lambda c: c["d"].dt.floor("1h"),
    "round": lambda c: c["t"].dt.round("1min"),
    "normalize": lambda c: c["t"].dt.normalize(),
    "day_name": lambda c: c["t"].dt.day_name(),
    "month_name": lambda c: c["t"].dt.month_name(),
    "strftime": lambda c: c["t"].dt.strftime("%Y/%m/%d %H"),
    "total_seconds": lambda c: c["d"].dt.total_seconds(),
    "tz_localize": lambda c: c["t"].dt.tz_localize("UTC").dt.hour,
    "tz_convert": lambda c: c["t"].dt.tz_localize("UTC").dt.tz_convert("Asia/Kolkata").dt.minute,
}
SERIES: Mapping[str, Build] = {
    "abs": lambda c: c["i"].abs() + abs(c["f"]),
    "astype": lambda c: c["i"].astype("float64"),
    "astype str": lambda c: c["i"].astype("str"),
    "between": lambda c: c["f"].between(-1, 2.0, inclusive="right"),
    "case_when": lambda c: c["f"].case_when([(c["i"] > 0, 7.0), (c["m"].fillna(False), c["f"] * 2)]),
    "clip": lambda c: c["i"].clip(-1, 2),
    "clip column": lambda c: c["f"].clip(upper=c["i"]),
    "combine_first": lambda c: c["n"].combine_first(c["i"]),
    "fillna": lambda c: c["f"].fillna(0.5),
    "fillna column": lambda c: c["n"].fillna(c["i"]),
    "isin": lambda c: c["s"].isin(["a", "ß"]),
    "isna": lambda c: c["t"].isna() | c["d"].isnull(),
    "map": lambda c: c["i"].map({0: "zero", 1: "one"}),
    "map function": lambda c: c["i"].map(lambda n: n * 0.5),
    "map series": lambda c: c["i"].map(pd.Series({0: 1.5, 1: 2.5})),
    "map ignore": lambda c: c["s"].map(len, na_action="ignore"),
    "mask": lambda c: c["f"].mask(c["b"], -9.0),
    "notna": lambda c: c["s"].notna() & c["m"].notnull(),
    "replace": lambda c: c["i"].replace({1: 2, 2: 1}),
    "replace list": lambda c: c["s"].replace(["a", "ß"], "z"),
    "round": lambda c: c["f"].round(1),
    "where": lambda c: c["f"].where(c["f"] > 0, c["i"]),
    "where callable": lambda c: c["i"].where(lambda x: x > 0, 0),
    "arithmetic": lambda c: c["i"].add(1).sub(2).subtract(1).mul(3).multiply(2).mod(5),
    "division": lambda c: c["f"].truediv(4).div(2).divide(5).floordiv(0.01),
    "pow": lambda c: c["i"].pow(2) ** 2,
    "reflected": lambda c: c["i"].radd(1).rsub(2).rmul(3) + (c["f"] + 9).rtruediv(1).rdiv(1),
    "reflected whole": lambda c: (c["f"] + 9).rfloordiv(7).rmod(5) + c["i"].rpow(2.0),
    "comparisons": lambda c: c["i"].eq(1) | c["i"].ne(0) & c["i"].lt(2) | c["i"].le(1) & c["f"].gt(0) | c["f"].ge(3),
    "logic": lambda c: ~c["b"] & (c["i"] > 0) | (True ^ c["b"]),
    "numpy": lambda c: np.sqrt(np.maximum(c["f"], 0.0)) + np.exp(c["f"]) * np.sign(c["f"]),
    "numpy operators": lambda c: np.multiply(c["i"], 2) - np.float64(3) * c["f"],
    "times": lambda c: c["t"] + c["d"] - pd.Timedelta("1D"),
    "pipe": lambda c: c["f"].pipe(lambda x, by: x * by, by=2),
}  # fmt: skip
COVERED_BY_OTHERS = {"isnull"}


@given(data=frames(), batches=st.integers(1, 3))
@settings(deadline=None, max_examples=5)
def test_methods_of_text_give_what_pandas_gives(data: pd.DataFrame, batches: int) -> None:
    found = streamed(lambda f: f.select("row", **{n: b(ms.col("s")) for n, b in STR.items()}), data, batches)

    for name, build in STR.items():
        assert plain(found[name]) == plain(build(data["s"])), name


WORDS: Mapping[str, Build] = {
    "first": lambda s: s.str.split(" ").str[0],
    "last": lambda s: s.str.split(" ").str.get(-1),
    "rest": lambda s: s.str.split(" ").str[1:],
    "backwards": lambda s: s.str.split(r"\s+").str[::-1].str.join("/"),
    "n": lambda s: s.str.split().str.len(),
    "joined": lambda s: s.str.findall("[ab]").str.join("-").str.upper(),
}


@given(data=frames(), batches=st.integers(1, 3))
@settings(deadline=None, max_examples=10)
def test_parts_of_a_text_are_reached_by_str_as_in_pandas(data: pd.DataFrame, batches: int) -> None:
    data["s"] = data["s"].fillna("")  # pandas has no second .str for a column of nothing but nulls

    found = streamed(lambda f: f.select("row", **{n: b(ms.col("s")) for n, b in WORDS.items()}), data, batches)

    for name, build in WORDS.items():
        assert plain(found[name]) == plain(build(data["s"])), name


@given(data=frames(), batches=st.integers(1, 3))
@settings(deadline=None, max_examples=5)
def test_parts_of_times_and_durations_give_what_pandas_gives(data: pd.DataFrame, batches: int) -> None:
    columns = {name: ms.col(name) for name in data.columns}

    found = streamed(lambda f: f.select("row", **{n: b(columns) for n, b in DT.items()}), data, batches)

    for name, build in DT.items():
        assert plain(found[name]) == plain(build(data)), name


@given(data=frames(), batches=st.integers(1, 3))
@settings(deadline=None, max_examples=7)
def test_methods_and_operators_give_what_pandas_gives(data: pd.DataFrame, batches: int) -> None:
    columns = {name: ms.col(name) for name in data.columns}

    found = streamed(lambda f: f.select("row", **{n: b(columns) for n, b in SERIES.items()}), data, batches)

    for name, build in SERIES.items():
        assert plain(found[name]) == plain(build(data)), name


@given(data=frames(), batches=st.integers(1, 3))
@settings(deadline=None, max_examples=6)
def test_callables_and_pandas_col_are_columns_too(data: pd.DataFrame, batches: int) -> None:
    def steps(frame: Any) -> Any:
        kept = frame[lambda f: f["i"] > -2][pd.col("i") < 3]
        return kept.assign(x=lambda f: f["f"] * f["i"], y=pd.col("f").fillna(0) + pd.col("x"))[["row", "x", "y"]]

    assert_same(steps, data, batches)


def test_every_member_that_is_offered_is_compared_with_pandas() -> None:
    assert ACCESSORS["str"] == STR.keys()
    assert ACCESSORS["dt"] == DT.keys() | OLD_NAMES
    assert {name.split()[0] for name in SERIES} >= METHODS - COVERED_BY_OTHERS


def test_names_that_pandas_gives_up_are_the_new_ones() -> None:
    data = pd.DataFrame({"t": pd.to_datetime(["2024-02-29"])})

    found = ms.from_pandas(data).select(**{name: getattr(ms.col("t").dt, name) for name in sorted(OLD_NAMES)}).compute()

    assert found.iloc[0].to_dict() == {"dayofweek": 3, "dayofyear": 60, "daysinmonth": 29, "weekday": 3}


def test_editors_see_every_member_with_the_signature_of_pandas() -> None:
    for space, owner in (("str", Texts), ("dt", Times)):
        assert ACCESSORS[space] <= set(vars(owner))
        assert ACCESSORS[space] <= set(dir(getattr(ms.col("x"), space)))
    assert set(dir(Column)) >= METHODS
    assert list(inspect.signature(ms.col("s").str.contains).parameters) == ["pat", "case", "flags", "na", "regex"]
    assert "Test if pattern" in (ms.col("s").str.contains.__doc__ or "")


NESTED = pa.table(
    {
        "row": [0, 1, 2],
        "tags": pa.array([["a", "b"], [], None], pa.list_(pa.string())),
        "who": pa.array([{"id": 1, "at": {"city": "Rome"}}, None, {"id": 2, "at": None}]),
    }
)


@pytest.mark.parametrize("batches", [1, 3])
def test_elements_of_lists_and_fields_of_records(batches: int) -> None:
    data = NESTED.to_pandas(types_mapper=pd.ArrowDtype)
    tags, who = ms.col("tags"), ms.col("who")

    found = streamed(
        lambda f: f.select("row", n=tags.list.len(), id=who.struct.field("id"), city=who.struct.field(["at", "city"])),
        data,
        batches,
    )

    assert plain(found["n"]) == [2, 0, None]
    assert plain(found["id"]) == [1, None, 2]
    assert plain(found["city"]) == ["Rome", None, None]


def test_the_first_element_of_lists() -> None:
    data = NESTED.to_pandas(types_mapper=pd.ArrowDtype).iloc[:1]

    found = streamed(lambda f: f.select("row", first=ms.col("tags").list[0]), data, 1)

    assert plain(found["first"]) == ["a"]


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda c: c.str.cat, r"\.str\.cat is not available"),
        (lambda c: c.dt.time, r"\.dt\.time is not available"),
        (lambda c: c.case_when([]), "condition, value"),
        (lambda c: c.replace([1, 2], [3]), "2 old values, but 1 new"),
        (lambda c: c.replace({1: 2}, 3), "mapping of old to new"),
        (lambda c: np.modf(c), "NumPy's own element-wise"),
        (lambda c: np.add.reduce(c), "NumPy's own element-wise"),
        (lambda c: ms.from_pandas(pd.DataFrame({"x": ["a b"]})).assign(y=c.str.split(expand=True)), "sample"),
        (lambda c: ms.from_pandas(pd.DataFrame({"x": ["a b"]})).assign(y=c.str.split().str.upper()), "these are lists"),
        (lambda c: ms.from_pandas(pd.DataFrame({"x": [1.0]})).assign(y=c.fillna("none")), "sample"),
        (lambda c: ms.from_pandas(pd.DataFrame({"x": [1.0]})).assign(y=c.where(c > 0, "none")), "object"),
    ],
)
def test_a_wrong_use_of_a_column_fails_when_it_is_written(write: Callable[[Any], Any], says: str) -> None:
    with pytest.raises(PlanError, match=says):
        write(ms.col("x"))
