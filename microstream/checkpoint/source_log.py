"""What a source must remember and a manifest is too small for: entries 0, 1, 2, ..., each created once.

Entries are facts about the world outside ("these files were there"), not about the state of the query. So a driver
that was fenced may still add one: whoever comes later finds it and goes on after it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import zstandard

from microstream.checkpoint.keys import source_entry_of, source_key
from microstream.checkpoint.retry import PATIENT
from microstream.checkpoint.store import NotFoundError, ObjectStore, StoreError
from microstream.errors import CheckpointError

__all__ = ["SourceLog"]

FORMAT = 1

T = TypeVar("T")


class SourceLog:
    """The memory of one source in one checkpoint. Entries never change, so they may be kept in memory.

    Parameters
    ----------
    store
        The checkpoint.
    source
        Name of the source.

    Examples
    --------
    >>> from microstream.checkpoint.memory import MemoryStore
    >>> log = SourceLog(MemoryStore(), "files")
    >>> log.create(0, {"files": ["a"]}), log.create(0, {"files": ["b"]}), log.length()
    ({'files': ['a']}, {'files': ['a']}, 1)
    """

    def __init__(self, store: ObjectStore, source: str) -> None:
        self._store, self._source = store, source

    def create(self, number: int | str, entry: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add an entry, or find the one that is there; returns what is durable. A word names a single fact.

        Raises
        ------
        StoreError
            The store does not answer; the entry may or may not be there.
        """
        key = source_key(self._source, number)
        text = json.dumps({"format": FORMAT, "source": self._source, "entry": entry}, sort_keys=True)
        data = zstandard.ZstdCompressor(write_checksum=True).compress(text.encode())
        try:
            self._store.create(key, data)
        except StoreError as problem:
            # Perhaps our own entry after a lost reply, perhaps another driver's: either is the truth now.
            found = self.get(number)
            if found is None:
                raise StoreError(f"{key} was not written: {problem}") from problem
            return found
        return entry

    def get(self, number: int | str) -> Mapping[str, Any] | None:
        """An entry, or None if it was not written yet. Raises StoreError, CheckpointError."""
        key = source_key(self._source, number)
        try:
            data = _patiently(f"reading {key}", lambda: self._store.get(key))
        except NotFoundError:
            return None
        try:
            found = json.loads(zstandard.ZstdDecompressor().decompress(data))
            entry: Mapping[str, Any] = found["entry"]
        except (zstandard.ZstdError, ValueError, KeyError, TypeError) as problem:
            raise CheckpointError.of(
                f"{self._store.url}/{key}", [f"cannot be read ({problem})"], "Restore it from a copy of the checkpoint."
            ) from problem
        if found["format"] != FORMAT:
            raise CheckpointError.of(
                f"{self._store.url}/{key}", [f"has format {found['format']}"], "Use the version that wrote it."
            )
        return entry

    def length(self) -> int:
        """How many numbered entries there are."""
        prefix = source_key(self._source, 0).rpartition("/")[0] + "/"
        numbers = (source_entry_of(key) for key in _patiently(f"listing {prefix}", lambda: self._store.list(prefix)))
        return max((number for number in numbers if number is not None), default=-1) + 1


def _patiently(what: str, step: Callable[[], T]) -> T:
    """The answer of `step`, tried again while the store does not answer; that a key is absent is an answer."""

    def answered() -> T | NotFoundError:
        try:
            return step()
        except NotFoundError as absent:
            return absent

    found = PATIENT(what, answered)
    if isinstance(found, NotFoundError):
        raise found
    return found
