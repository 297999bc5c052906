"""A model of an object store: one bucket that all processes see, and clients whose calls get lost, doubled or
delayed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from microstream.checkpoint.store import AlreadyExistsError, NotFoundError, StoreError
from microstream.testing.simulation.kernel import Unanswered, World

__all__ = ["Bucket", "SimStore", "StoreFaults"]

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class StoreFaults:
    """What this store answers wrongly how often (probabilities per call), on top of the world's lost
    messages.
    """

    server_error: float = 0.0
    """5xx: half of them after the request was applied."""
    conflict: float = 0.0
    """A 409 to a create, which clients report as "already exists" although nothing is there."""
    retried: float = 0.0
    """A create whose first reply was lost: the client sent it again by itself and reports its own object as
    existing.
    """

    def stop(self) -> None:
        """From now on every answer is right."""
        self.server_error = self.conflict = self.retried = 0.0


@dataclass(slots=True)
class Bucket:
    """Objects, strongly consistent and durable at the instant they are applied.

    `created` and `deleted` are told of every change, for invariants that hold at all times.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    on_create: list[Callable[[str, bytes], None]] = field(default_factory=list)
    on_delete: list[Callable[[str], None]] = field(default_factory=list)

    def create(self, key: str, data: bytes) -> None:
        """Add an object; AlreadyExistsError if there is one."""
        if key in self.objects:
            raise AlreadyExistsError(f"{key} exists")
        self.objects[key] = bytes(data)
        for told in self.on_create:
            told(key, data)

    def get(self, key: str) -> bytes:
        """An object's bytes; NotFoundError if there is none."""
        try:
            return self.objects[key]
        except KeyError:
            raise NotFoundError(f"{key} is not there") from None

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if there is none."""
        if self.objects.pop(key, None) is not None:
            for told in self.on_delete:
                told(key)

    def flip_bit(self, key: str, bit: int) -> None:
        """Damage one bit of an object, as a bad disk or cable does."""
        data = bytearray(self.objects[key])
        data[bit // 8 % len(data)] ^= 1 << bit % 8
        self.objects[key] = bytes(data)

    def truncate(self, key: str, size: int) -> None:
        """Cut an object to `size` bytes, as a crashed disk without fsync does."""
        self.objects[key] = self.objects[key][:size]

    def snapshot(self) -> dict[str, bytes]:
        """All objects as they are now (a backup)."""
        return dict(self.objects)

    def roll_back(self, snapshot: dict[str, bytes]) -> None:
        """Everything as it was at `snapshot`, without telling anybody."""
        self.objects = dict(snapshot)


class SimStore:
    """A client of `bucket` for whichever process uses it (checkpoint/store.py: ObjectStore).

    Reads and writes travel like everything else in the world: each call is applied at one instant, unless the
    world or `faults` decides otherwise.
    """

    def __init__(
        self,
        world: World,
        bucket: Bucket,
        *,
        url: str = "sim://checkpoint",
        faults: StoreFaults | None = None,
    ) -> None:
        self._world = world
        self._bucket = bucket
        self._url = url
        self._faults = faults if faults is not None else StoreFaults()

    @property
    def url(self) -> str:
        """The name given."""
        return self._url

    def create(self, key: str, data: bytes) -> None:
        """Atomic create-if-absent, of which this client may hear a wrong story."""

        def apply() -> None:
            if self._happens(self._faults.conflict):
                raise AlreadyExistsError(f"{key}: 409 ConditionalRequestConflict")
            self._bucket.create(key, data)
            if self._happens(self._faults.retried):
                raise AlreadyExistsError(f"{key}: 412 PreconditionFailed")

        self._write(f"store.create {key}", apply)

    def put(self, key: str, data: bytes) -> None:
        """Write a unique key."""

        def apply() -> None:
            if key not in self._bucket.objects:
                self._bucket.create(key, data)

        self._write(f"store.put {key}", apply)

    def get(self, key: str) -> bytes:
        """All bytes."""
        return self._call(f"store.get {key}", lambda: self._bucket.get(key))

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Some bytes; like real stores, fewer than asked for where the object ends."""

        def apply() -> list[bytes]:
            data = self._bucket.get(key)
            return [data[offset : offset + length] for offset, length in ranges]

        return self._call(f"store.get_ranges {key}", apply)

    def list(self, prefix: str) -> list[str]:
        """Keys, sorted."""
        return self._call(
            f"store.list {prefix}",
            lambda: sorted(key for key in self._bucket.objects if key.startswith(prefix)),
        )

    def delete(self, keys: Sequence[str]) -> None:
        """Remove keys one after the other: a crash or an error may come between two of them."""
        for key in keys:
            self._write(f"store.delete {key}", lambda key=key: self._bucket.delete(key))  # type: ignore[misc]

    def probe(self) -> None:
        """This store can do all that is asked of it."""

    def _write(self, operation: str, apply: Callable[[], None]) -> None:
        """A call with an effect: an error of the server may come before the effect or after it."""

        def faulty() -> None:
            failed = self._happens(self._faults.server_error)
            if failed and self._world.random.random() < 0.5:
                raise StoreError(f"{operation}: 503, not applied")
            apply()
            if failed:
                raise StoreError(f"{operation}: 500, applied")

        self._call(operation, faulty)

    def _call(self, operation: str, apply: Callable[[], T]) -> T:
        try:
            return self._world.call(operation, apply)
        except Unanswered as silence:
            raise StoreError(str(silence)) from None

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self._world.random.random() < probability
