"""Two partitions of tiny files, one record in each: what the suites of `microstream.testing.connectors` drive."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from microstream.checkpoint.memory import MemoryStore
from microstream.checkpoint.source_log import SourceLog
from microstream.connectors.files.decode import Format
from microstream.connectors.files.journal import Entry, Journal, Listed, name_of
from microstream.connectors.files.listing import filesystem_of, version_of
from microstream.connectors.files.source import FileSource

Lines = dict[Format, Callable[[object], str]]

TEXT: Lines = {"json": lambda n: json.dumps({"n": n}) + "\n", "csv": lambda n: f"n\n{n}\n"}
BLANK: Lines = {"json": lambda _: "\n", "csv": lambda _: "n\n\n"}


class FileSourceHarness:
    """Says itself which partition a file belongs to: it writes the log's entries before the probe finds anything."""

    def __init__(self, folder: Path, format: Format) -> None:
        self.folder, self.format = folder, format
        self.log = SourceLog(MemoryStore(), "source")
        self.journal = Journal(self.log)
        self.ends = dict.fromkeys(self.partitions, 0)
        self.entries = 0
        self.files: dict[tuple[str, int], Path] = {}
        self._write([])

    @property
    def partitions(self) -> tuple[str, str]:
        return name_of(0), name_of(1)

    def connector(self, *, on_bad_record: str = "fail", on_data_loss: str = "fail") -> FileSource:
        return FileSource(
            paths=(str(self.folder),),
            format=self.format,
            watch=True,
            on_bad_record=on_bad_record,  # type: ignore[arg-type]
            on_data_loss=on_data_loss,  # type: ignore[arg-type]
        ).with_log(self.log)

    def append(self, partition: str, values: Sequence[int | None]) -> None:
        for value in values:
            make = BLANK if value is None else TEXT
            self._publish(partition, self._hidden(make[self.format](value)))

    def append_bad(self, partition: str) -> None:
        self._publish(partition, self._hidden(TEXT[self.format]("no number")))

    def append_aborted(self, partition: str, values: Sequence[int]) -> None:
        for value in values:
            self._hidden(TEXT[self.format](value)).unlink()

    def append_open(self, partition: str, values: Sequence[int]) -> Callable[[], None]:
        hidden = [self._hidden(TEXT[self.format](value)) for value in values]
        return lambda: [self._publish(partition, path) for path in hidden] and None

    def expire(self, partition: str, before: int) -> None:
        for (name, offset), path in self.files.items():
            if name == partition and offset < before:
                path.unlink()

    def _hidden(self, text: str) -> Path:
        path = self.folder / f"_{self.entries}-{len(list(self.folder.iterdir()))}"
        path.write_text(text)
        return path

    def _publish(self, partition: str, hidden: Path) -> None:
        path = hidden.rename(hidden.with_name(f"{len(self.files):06d}"))
        info = filesystem_of([str(path)], {}).info(str(path))
        first = self.ends[partition]
        self.files[partition, first] = path
        self.ends[partition] = first + 1
        self._write(
            [
                Listed(
                    path=str(path),
                    size=info["size"],
                    version=version_of(info),
                    partition=partition,
                    first=first,
                    count=1,
                )
            ]
        )

    def _write(self, files: Sequence[Listed]) -> None:
        known = [] if self.entries and self.entries % 100 == 0 else None
        assert known is None, "the suites write fewer than 100 records"
        assert self.journal.add(self.entries, Entry(files=tuple(files), ends=dict(self.ends)))
        self.entries += 1
