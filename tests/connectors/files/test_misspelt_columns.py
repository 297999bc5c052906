"""Columns of `schema=` that files do not have: null, and told of."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest

import microstream as ms


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("prise", ["field 'prise' is null in the first 4 records. Did you mean 'price' in schema=?"]),
        ("note", []),  # nothing is like it: it may be rare
        ("old_price", []),  # there, and null
    ],
)
def test_a_field_that_no_record_has_is_told_if_one_is_nearly_so_called(
    tmp_path: Path, log_records: list[logging.LogRecord], field: str, says: list[str]
) -> None:
    for at in range(3):
        text = "".join(f'{{"id": {n}, "price": 1.5, "old_price": null}}\n' for n in range(4))
        (tmp_path / f"{at}.json").write_text(text)

    found = ms.read_files(tmp_path, format="json", schema={"id": "int64", field: "float64"}).compute()

    assert found[field].isna().all()
    assert [line.getMessage() for line in log_records if line.name == "microstream.json"] == says


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_a_column_that_a_file_lacks_is_told_once(
    tmp_path: Path, log_records: list[logging.LogRecord], format: Literal["csv", "parquet"]
) -> None:
    for at in range(3):
        rows = pd.DataFrame({"id": [1, 2], "price": [1.5, 2.5]})
        path = tmp_path / f"{at}.{format}"
        rows.to_csv(path, index=False) if format == "csv" else rows.to_parquet(path)

    found = ms.read_files(tmp_path, format=format, schema={"id": "int64", "prise": "float64"}).compute()

    lines = [line.getMessage() for line in log_records if line.name == "microstream.files"]
    assert found["prise"].isna().all()
    assert len(lines) == 1
    assert "has no column 'prise'" in lines[0]
    assert lines[0].endswith("Did you mean 'price' in schema=?")
