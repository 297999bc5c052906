from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from microstream.connectors.files.sink import ParquetSink
from microstream.connectors.files.visible import open_parquet
from microstream.errors import ConnectorError
from microstream.testing.connectors import ExactlyOnceContract, open_writer, publish


class Folder:
    def __init__(self, url: str, every_us: int = 0, options: dict[str, Any] | None = None) -> None:
        self.url, self.every_us, self.options = url, every_us, options or {}

    def connector(self) -> ParquetSink:
        return ParquetSink(url=self.url, every_us=self.every_us, storage_options=self.options)

    def published(self) -> list[int]:
        self.connector().open_probe().markers("job", "out", [0])
        return sorted(open_parquet(self.url, self.options).to_table()["n"].to_pylist())


class TestParquetFiles(ExactlyOnceContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Folder:
        return Folder(str(tmp_path / "table"))


class TestRolledParquetFiles(ExactlyOnceContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Folder:
        return Folder(str(tmp_path / "table"), every_us=1)


class TestParquetFilesInABucket(ExactlyOnceContract):
    @pytest.fixture
    def harness(self, bucket_options: dict[str, Any]) -> Folder:
        return Folder(f"s3://bucket/{uuid.uuid4().hex}", options=bucket_options)

    def test_a_folder_of_somebody_else_is_refused(self, harness: Folder) -> None:
        ParquetSink(url=harness.url, storage_options=harness.options).open_probe().check()
        publish(open_writer(harness), 0, [1])

        with pytest.raises(ConnectorError, match="no query of microstream made"):
            harness.connector().open_probe().check()


def test_nothing_is_written_into_a_folder_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(ConnectorError, match=r"such as notes\.txt"):
        ParquetSink(url=str(tmp_path)).open_probe().check()

    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_marker_is_the_newest_batch_and_says_when_there_certainly_is_none(tmp_path: Path) -> None:
    harness = Folder(str(tmp_path / "table"))
    probe = harness.connector().open_probe()

    before = probe.markers("job", "out", [0, 1])
    publish(open_writer(harness), 6, [1])
    after = probe.markers("job", "out", [0, 1])

    assert before == {0: -1, 1: None}
    assert after == {0: 6, 1: None}
