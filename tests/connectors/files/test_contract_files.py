"""Files pass the suite that ships for every source."""

from __future__ import annotations

from pathlib import Path

import pytest
from file_harness import FileSourceHarness

from microstream.testing.connectors import SourceContract


class TestJsonFiles(SourceContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> FileSourceHarness:
        return FileSourceHarness(tmp_path, "json")


class TestCsvFiles(SourceContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> FileSourceHarness:
        return FileSourceHarness(tmp_path, "csv")
