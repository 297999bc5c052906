"""Files as a plan names them: a frozen value that can be compared, printed, shipped and opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pyarrow as pa

from microstream.checkpoint.source_log import SourceLog
from microstream.clock import SystemClock
from microstream.connectors.files.decode import Format
from microstream.connectors.files.journal import Journal
from microstream.connectors.files.listing import filesystem_of
from microstream.connectors.files.probe import FileProbe
from microstream.connectors.files.reader import FileReader, FileRules
from microstream.errors import InternalError, PlanError

__all__ = ["FORMATS", "FileSource"]

FORMATS = ("json", "csv", "parquet")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """Rows of files in at most 16 partitions, each of which reads its files one after the other.

    Parameters
    ----------
    paths
        Files, folders and globs, as URLs or absolute paths, all on one file system; read in this order.
    format
        "json" (lines), "csv" or "parquet".
    watch
        Whether files that come later are read, too.
    on_bad_record
        "fail": BadRecordError; "drop": counted and logged.
    on_data_loss
        "fail": OffsetExpiredError for a file that is gone unread, ConnectorError for one that was changed; "skip".
    storage_options
        What fsspec takes for the file system.

    Raises
    ------
    PlanError
        An argument has a value that is not possible.
    """

    paths: tuple[str, ...]
    format: Format
    watch: bool = False
    on_bad_record: Literal["fail", "drop"] = "fail"
    on_data_loss: Literal["fail", "skip"] = "fail"
    storage_options: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)
    log: SourceLog | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.paths or not all(self.paths):
            raise PlanError("read_files: name at least one file, folder or glob.")
        _require_one_of("format", self.format, FORMATS)
        _require_one_of("on_bad_record", self.on_bad_record, ("fail", "drop"))
        _require_one_of("on_data_loss", self.on_data_loss, ("fail", "skip"))
        filesystem_of(self.paths, self.storage_options)

    @property
    def kind(self) -> str:
        """ "files"."""
        return "files"

    @property
    def target(self) -> str:
        """The paths, joined by commas."""
        return ",".join(self.paths)

    @property
    def finite(self) -> bool:
        """Whether it ends with the files that are there."""
        return not self.watch

    @property
    def start(self) -> str:
        """The first file: a folder has no end to start from."""
        return "earliest"

    def with_log(self, log: SourceLog) -> FileSource:
        """The same source, with a memory."""
        return replace(self, log=log)

    def open_probe(self) -> FileProbe:
        """The driver's view."""
        return FileProbe(
            self.paths,
            self.storage_options,
            self._log(),
            SystemClock(),
            watch=self.watch,
            on_data_loss=self.on_data_loss,
        )

    def open_reader(self, *, name: str, schema: pa.Schema, event_time: str | None, max_ahead_us: int) -> FileReader:
        """A worker's view, for one lane; `schema` may be a subset of the columns declared."""
        rules = FileRules(
            format=self.format,
            on_bad_record=self.on_bad_record,
            on_data_loss=self.on_data_loss,
            storage_options=self.storage_options,
        )
        return FileReader(
            self.paths,
            rules,
            Journal(self._log()),
            name=name,
            schema=schema,
            event_time=event_time,
            max_ahead_us=max_ahead_us,
        )

    def _log(self) -> SourceLog:
        if self.log is None:
            raise InternalError("a file source was opened without its log")
        return self.log


def _require_one_of(argument: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise PlanError(f"read_files({argument}={value!r}): must be one of {', '.join(map(repr, allowed))}.")
