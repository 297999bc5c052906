from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from tables import SCHEMA, tables

from microstream.errors import PlanError
from microstream.plan.dtypes import WrongColumnsError, parse_schema, schema_of, to_frame, to_table


@given(table=tables())
@settings(deadline=None)
def test_a_table_survives_the_way_to_pandas_and_back(table: pa.Table) -> None:
    frame = to_frame(table)

    back = to_table(frame, table.schema, "test")

    assert back.equals(table)


@given(table=tables())
@settings(deadline=None)
def test_dtypes_follow_from_the_schema_and_not_from_the_rows(table: pa.Table) -> None:
    without_rows = to_frame(SCHEMA.empty_table()).dtypes

    with_rows = to_frame(table).dtypes

    assert with_rows.equals(without_rows)
    assert schema_of(to_frame(table), "test").equals(SCHEMA)


def test_a_frame_may_be_written_into() -> None:
    table = pa.table({"n": pa.array([1, 2]), "x": pa.array([1.0, 2.0])})
    frame = to_frame(table)

    frame.loc[frame["n"] > 1, "x"] = 0.0

    assert frame["x"].tolist() == [1.0, 0.0]
    assert table.column("x").to_pylist() == [1.0, 2.0]


def test_type_names_of_pandas_and_of_records_are_understood() -> None:
    schema = parse_schema({"a": "int64", "b": "Int64", "c": "epoch[ms]", "d": {"e": "list[str]"}, "g": "decimal(9, 2)"})

    found = {field.name: (str(field.type), field.nullable) for field in schema}

    assert found == {
        "a": ("int64", False),
        "b": ("int64", True),
        "c": ("timestamp[us]", True),
        "d": ("struct<e: list<item: large_string>>", True),
        "g": ("decimal128(9, 2)", True),
    }
    assert schema.field("c").metadata == {b"microstream": b"epoch[ms]"}


def test_an_arrow_schema_is_brought_to_one_type_per_kind() -> None:
    given_schema = pa.schema(
        [
            pa.field("s", pa.string(), nullable=False),
            pa.field("t", pa.timestamp("ns", tz="Europe/Rome")),
            pa.field("d", pa.dictionary(pa.int8(), pa.string())),
            pa.field("e", pa.timestamp("ms"), metadata={b"microstream": b"epoch[s]", b"other": b"x"}),
        ]
    )

    schema = parse_schema(given_schema)

    assert schema.types == [pa.large_string(), pa.timestamp("us"), pa.large_string(), pa.timestamp("us")]
    assert not schema.field("s").nullable
    assert schema.field("e").metadata == {b"microstream": b"epoch[s]"}


@pytest.mark.parametrize("bad", [{"a": "int63"}, {}, {"a": "epoch[m]"}, "int64", pa.schema([("a", pa.null())])])
def test_what_is_no_schema_is_refused_when_the_plan_is_written(bad: object) -> None:
    with pytest.raises(PlanError):
        parse_schema(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (pd.DataFrame({"n": ["1"], "s": ["a"]}), "declared int64, but the values are str"),
        (pd.DataFrame({"n": [True], "s": ["a"]}), "declared int64, but the values are bool"),
        (pd.DataFrame({"n": [1.5], "s": ["a"]}), "declared int64, but the values are float64"),
        (pd.DataFrame({"n": [1.0, np.nan], "s": ["a", "b"]}), "1 of 2 values are null"),
        (pd.DataFrame({"n": [1]}), "missing: s"),
        (pd.DataFrame({"n": [1], "s": ["a"], "x": [1]}), "not declared: x"),
        (pd.DataFrame({"n": [1], "s": [3]}), "declared str, but the values are int64"),
    ],
)
def test_a_frame_that_is_not_as_declared_is_refused_and_told_why(frame: pd.DataFrame, says: str) -> None:
    schema = parse_schema({"n": "int64", "s": "str"})

    with pytest.raises(WrongColumnsError, match=says):
        to_table(frame, schema, "fn")


def test_integers_that_pandas_turned_into_floats_come_back_as_integers() -> None:
    frame = pd.DataFrame({"n": [1.0, np.nan]}, index=[7, 3])

    table = to_table(frame, parse_schema({"n": "Int64"}), "fn")

    assert table.column("n").to_pylist() == [1, None]


def test_times_with_a_zone_are_brought_to_utc() -> None:
    frame = pd.DataFrame({"t": pd.to_datetime(["2026-07-01 12:00"]).tz_localize("Europe/Rome")})

    table = to_table(frame, parse_schema({"t": "datetime64"}), "fn")

    assert table.column("t").to_pylist() == [pd.Timestamp("2026-07-01 10:00")]


def test_nan_in_a_masked_column_becomes_null() -> None:
    frame = pd.DataFrame({"x": pd.array([0, 1], dtype="Int64") / 0})

    table = to_table(frame, parse_schema({"x": "float64"}), "fn")

    assert table.column("x").to_pylist() == [None, float("inf")]
