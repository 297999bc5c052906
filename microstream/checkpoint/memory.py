"""A checkpoint in the memory of this process: for `compute()`, notebooks and tests. Gone with the process."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from microstream.checkpoint.probing import check_store
from microstream.checkpoint.store import AlreadyExistsError, NotFoundError

__all__ = ["MemoryStore"]


class MemoryStore:
    """Objects in a dictionary; safe to use from many threads of one process.

    Parameters
    ----------
    name
        Shown in messages, as "memory://name".
    """

    def __init__(self, name: str = "checkpoint") -> None:
        self._url = f"memory://{name}"
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"MemoryStore({self._url!r})"

    @property
    def url(self) -> str:
        """ "memory://name"; a name for people, which `open_store` refuses."""
        return self._url

    def create(self, key: str, data: bytes) -> None:
        """Add `key`; AlreadyExistsError if it is there."""
        with self._lock:
            if key in self._objects:
                raise AlreadyExistsError(f"{self._url}/{key} exists")
            self._objects[key] = bytes(data)

    def put(self, key: str, data: bytes) -> None:
        """Add `key`."""
        with self._lock:
            self._objects[key] = bytes(data)

    def get(self, key: str) -> bytes:
        """All bytes of `key`."""
        with self._lock:
            try:
                return self._objects[key]
            except KeyError:
                raise NotFoundError(f"{self._url}/{key} is not there") from None

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Pieces of `key`; fewer bytes where it ends."""
        data = self.get(key)
        return [data[offset : offset + length] for offset, length in ranges]

    def list(self, prefix: str) -> list[str]:
        """Keys that start with `prefix`, sorted."""
        with self._lock:
            return sorted(key for key in self._objects if key.startswith(prefix))

    def delete(self, keys: Sequence[str]) -> None:
        """Remove `keys`."""
        with self._lock:
            for key in keys:
                self._objects.pop(key, None)

    def probe(self) -> None:
        """Nothing can be wrong here that a user could repair; checked all the same."""
        check_store(self, "probe/memory", advice="Please report this.")
