"""What the log of a file source says: which files were found, and which offsets of which partition are theirs.

A partition is a row of files, one after the other. A file takes one offset for each begun 200 bytes, whatever its
format: so offsets are about records, can be known without reading it, and cut a large file into as many batches as it
needs. (200 bytes is what slicing guesses for a record of a source that it has not read yet.)

An entry is one listing's new files (5,000 at most) and where each partition ends after them. Every 100th also repeats
what was known before, so that a driver that starts need not read them all; a worker finds the entry that it needs by
bisection, because ends never fall.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from microstream.checkpoint.source_log import SourceLog
from microstream.connectors.files.listing import Found
from microstream.errors import InternalError

__all__ = ["FILES_PER_ENTRY", "PARTITIONS", "UNIT_BYTES", "Entry", "Journal", "Listed", "following", "name_of"]

UNIT_BYTES = 200
PARTITIONS = 16
FILES_PER_ENTRY = 5_000
SNAPSHOT_EVERY = 100
ENTRIES_KEPT = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A file that was found, and its place: offsets `[first, first + count)` of `partition`."""

    path: str
    size: int
    version: str
    partition: str
    first: int
    count: int

    @property
    def end(self) -> int:
        """The first offset after it."""
        return self.first + self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry: new `files`, and the end of every partition after them; `known`, if it repeats what came before."""

    files: tuple[Listed, ...]
    ends: Mapping[str, int]
    known: tuple[Listed, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """As it is stored."""
        stored: dict[str, Any] = {"files": list(map(_to_row, self.files)), "ends": dict(self.ends)}
        if self.known is not None:
            stored["known"] = list(map(_to_row, self.known))
        return stored

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> Entry:
        """As it was stored."""
        known = stored.get("known")
        return cls(
            files=tuple(map(_of_row, stored["files"])),
            ends=stored["ends"],
            known=None if known is None else tuple(map(_of_row, known)),
        )


def name_of(number: int) -> str:
    """The name of partition `number`."""
    return f"files-{number}"


def following(number: int, found: Sequence[Found], known: Iterable[Listed], ends: Mapping[str, int]) -> Entry:
    """Entry `number`: `found` in their order, dealt out to the partitions like cards.

    Few new files come to the first partitions, which then say alone how far event time is; many are read in parallel.
    """
    after, files = dict(ends), []
    for at, new in enumerate(found):
        partition = name_of(at % PARTITIONS)
        first, count = after.get(partition, 0), -(-new.size // UNIT_BYTES)
        after[partition] = first + count
        files.append(
            Listed(path=new.path, size=new.size, version=new.version, partition=partition, first=first, count=count)
        )
    is_snapshot = number > 0 and number % SNAPSHOT_EVERY == 0
    return Entry(files=tuple(files), ends=after, known=tuple(known) if is_snapshot else None)


class Journal:
    """The log of one file source, read from either end."""

    def __init__(self, log: SourceLog) -> None:
        self._log = log
        self._length = 0
        # Entries never change. Those that repeat what came before may be large: readers keep only what is new in them.
        self._kept = lru_cache(maxsize=ENTRIES_KEPT)(self._load)

    def last_snapshot(self) -> int:
        """The number to start reading at, to know every file."""
        return max(0, self._log.length() - 1) // SNAPSHOT_EVERY * SNAPSHOT_EVERY

    def get(self, number: int) -> Entry | None:
        """An entry, or None if there is none yet."""
        stored = self._log.get(number)
        return None if stored is None else Entry.of_json(stored)

    def add(self, number: int, entry: Entry) -> bool:
        """Write `entry`; False if another one has its number already."""
        wanted = entry.to_json()
        return dict(self._log.create(number, wanted)) == wanted

    def files(self, partition: str, start: int, end: int) -> list[Listed]:
        """The files that hold offsets `[start, end)` of `partition`, in order."""
        if start >= end:
            return []
        self._length = self._length or max(1, self._log.length())
        while self._kept(self._length - 1).ends.get(partition, 0) < end:
            # Entries have no gaps, and one that holds `end` was written before anybody was told to read to there.
            self._length += 1
        low, high = 0, self._length
        while low < high:
            middle = (low + high) // 2
            if self._kept(middle).ends.get(partition, 0) > start:
                high = middle
            else:
                low = middle + 1
        found: list[Listed] = []
        while not found or found[-1].end < end:
            mine = [one for one in self._kept(low).files if one.partition == partition]
            found += [one for one in mine if one.end > start and one.first < end]
            low += 1
        return found

    def _load(self, number: int) -> Entry:
        stored = self._log.get(number)
        if stored is None:
            raise InternalError(f"entry {number} of a file source's log is not there")
        return Entry.of_json({"files": stored["files"], "ends": stored["ends"]})


def _to_row(file: Listed) -> list[Any]:
    return [file.path, file.size, file.version, file.partition, file.first, file.count]


def _of_row(row: Sequence[Any]) -> Listed:
    path, size, version, partition, first, count = row
    return Listed(path=path, size=size, version=version, partition=partition, first=first, count=count)
