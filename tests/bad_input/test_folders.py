"""Folders that cannot be written: other columns than there are, or files of somebody else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from clicks import run
from distributed import Client

import microstream as ms

ONCE = ms.available_now()


def rows(*numbers: int) -> ms.StreamFrame:
    return ms.from_pandas(pd.DataFrame({"country": "de", "n": list(numbers)}), name="rows")


def contents(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("cols", "says"),
    [
        ("contry", "no column 'contry'. Did you mean 'country'? Columns here: country, n"),
        (["country", "day"], "no column 'day'. Columns here: country, n"),
        (["country", "n"], "no column would be left for the files"),
    ],
)
def test_partition_cols_that_are_not_there_fail_when_they_are_written(
    tmp_path: Path, cols: str | list[str], says: str
) -> None:
    with pytest.raises(ms.PlanError) as caught:
        rows(1).to_parquet(str(tmp_path / "table"), partition_cols=cols)

    assert str(caught.value).startswith("to_parquet(partition_cols=): ")
    assert says in str(caught.value)
    assert not (tmp_path / "table").exists()


def test_folders_are_given_as_text_or_as_paths(client: Client, tmp_path: Path) -> None:
    query = ms.start(rows(1).to_parquet(tmp_path / "t"), checkpoint=tmp_path / "c", client=client, trigger=ONCE)
    query.await_termination(60)

    assert ms.open_parquet(tmp_path / "t").to_table()["n"].to_pylist() == [1]
    assert ms.open_checkpoint(tmp_path / "c").url == str(tmp_path / "c")


@pytest.mark.parametrize("wrong", [5, True, b"folder", ["folder"]])
def test_what_is_no_folder_is_refused_with_the_name_of_the_argument(wrong: Any) -> None:
    for argument, write in (
        ("checkpoint", lambda: ms.start(rows(1).to_null(), checkpoint=wrong)),
        ("checkpoint", lambda: ms.open_checkpoint(wrong)),
        (r"to_parquet\(path\)", lambda: rows(1).to_parquet(wrong)),
    ):
        with pytest.raises(ms.PlanError, match=rf"^{argument}={re.escape(repr(wrong))} is no folder or URL"):
            write()


def test_a_folder_with_files_of_somebody_else_is_refused_and_left_as_it_is(client: Client, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    pd.DataFrame({"n": [1]}).to_parquet(theirs / "part-0.parquet")

    with pytest.raises(ms.ConnectorError) as caught:
        run(rows(2).to_parquet(str(theirs)), client, tmp_path / "ck", name="q")

    for part in (
        "query q",
        str(theirs),
        "no query of microstream made, such as part-0.parquet",
        "Choose an empty folder",
    ):
        assert part in str(caught.value)
    assert contents(theirs) == ["part-0.parquet"]


def test_a_folder_of_another_query_is_refused_and_left_as_it_is(client: Client, tmp_path: Path) -> None:
    table = tmp_path / "table"
    run(rows(1).to_parquet(str(table)), client, tmp_path / "first")
    before = contents(table)

    with pytest.raises(ms.ConnectorError) as caught:
        run(rows(2).to_parquet(str(table)), client, tmp_path / "second", name="q")

    for part in (
        "query q",
        str(table),
        "belongs to the query with the checkpoint of job",
        "or start with that checkpoint",
    ):
        assert part in str(caught.value)
    assert contents(table) == before
    assert ms.open_parquet(str(table)).to_table()["n"].to_pylist() == [1]
