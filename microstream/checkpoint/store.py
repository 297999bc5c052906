"""The object store contract: seven methods, bytes in, bytes out. Every rule of the commit protocol rests on it.

Keys are relative paths with "/" ("manifest/00…01.json.zst"). A store never overwrites through `create`.
`microstream.testing.stores` holds the tests that every store must pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

__all__ = ["AlreadyExistsError", "NotFoundError", "ObjectStore", "StoreError"]


class StoreError(OSError):
    """The outcome of a call is unknown (time-out, 5xx, disk full): it may have been applied."""


class AlreadyExistsError(StoreError):
    """`create` found the key; perhaps from this very call, after a lost reply: read it back and compare."""


class NotFoundError(StoreError):
    """The key is not there, for certain."""


class ObjectStore(Protocol):
    """A prefix of an object store or a local folder."""

    @property
    def url(self) -> str:
        """Where it is, as the user wrote it (normalised)."""
        ...

    def create(self, key: str, data: bytes) -> None:
        """Write `key` unless it exists: atomic, durable on return, one winner, readers never see a part.

        Raises AlreadyExistsError, or StoreError where the outcome is unknown.
        """
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write a key that nobody else uses (unique names): durable on return."""
        ...

    def get(self, key: str) -> bytes:
        """All bytes of `key`. Raises NotFoundError, StoreError."""
        ...

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Bytes `[offset, offset + length)` of `key` for each range. Raises NotFoundError, StoreError."""
        ...

    def list(self, prefix: str) -> list[str]:
        """All keys that start with `prefix`, sorted; strongly consistent, empty where there are none."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Remove keys; one that is not there is no error."""
        ...

    def probe(self) -> None:
        """Raise CheckpointError unless this store can create, read back, list and report an absent key cleanly."""
        ...
