"""A store that counts what is asked of it: object stores bill by request, and a slow batch is often a chatty one."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from microstream.checkpoint.store import ObjectStore

__all__ = ["NO_TRAFFIC", "CountingStore", "Traffic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests by kind (`create put get list delete`, sorted) and the bytes that they moved.

    >>> one = Traffic(requests=(("get", 1),), bytes_read=10)
    >>> (one + one + NO_TRAFFIC).requests, (one + one).bytes_read
    ((('get', 2),), 20)
    """

    requests: tuple[tuple[str, int], ...] = ()
    bytes_written: int = 0
    bytes_read: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        counts = Counter(dict(self.requests))
        counts.update(dict(other.requests))
        return Traffic(
            requests=tuple(sorted(counts.items())),
            bytes_written=self.bytes_written + other.bytes_written,
            bytes_read=self.bytes_read + other.bytes_read,
        )


NO_TRAFFIC = Traffic()


class CountingStore:
    """`store`, and what was asked of it since `take` was called last; may be used by several threads.

    A request counts when it is sent, also if it fails: that is how it is billed. One range of `get_ranges` is one
    request; a long `list` or `delete` counts as one, though a bucket answers a thousand keys at a time.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._requests: Counter[str] = Counter()
        self._written = self._read = 0

    @property
    def url(self) -> str:
        """Of the store."""
        return self._store.url

    def take(self) -> Traffic:
        """What was asked since the last `take`."""
        with self._lock:
            traffic = Traffic(
                requests=tuple(sorted(self._requests.items())), bytes_written=self._written, bytes_read=self._read
            )
            self._requests.clear()
            self._written = self._read = 0
        return traffic

    def create(self, key: str, data: bytes) -> None:
        """As the store's."""
        self._count("create", written=len(data))
        self._store.create(key, data)

    def put(self, key: str, data: bytes) -> None:
        """As the store's."""
        self._count("put", written=len(data))
        self._store.put(key, data)

    def get(self, key: str) -> bytes:
        """As the store's."""
        self._count("get")
        data = self._store.get(key)
        self._count("get", requests=0, read=len(data))
        return data

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """As the store's."""
        self._count("get", requests=len(ranges))
        pieces = self._store.get_ranges(key, ranges)
        self._count("get", requests=0, read=sum(map(len, pieces)))
        return pieces

    def list(self, prefix: str) -> list[str]:
        """As the store's."""
        self._count("list")
        return self._store.list(prefix)

    def delete(self, keys: Sequence[str]) -> None:
        """As the store's."""
        self._count("delete")
        self._store.delete(keys)

    def probe(self) -> None:
        """As the store's; its few requests are not counted."""
        self._store.probe()

    def _count(self, kind: str, *, requests: int = 1, written: int = 0, read: int = 0) -> None:
        with self._lock:
            self._requests[kind] += requests
            self._written += written
            self._read += read
