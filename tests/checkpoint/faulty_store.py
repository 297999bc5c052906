"""A model of an object store whose answers go wrong as those of real ones do, call by call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import TypeVar

from microstream.checkpoint.memory import MemoryStore
from microstream.checkpoint.store import AlreadyExistsError, ObjectStore, StoreError

T = TypeVar("T")


class Fault(Enum):
    """What happens to one call."""

    NONE = "none"
    LOST = "the request never arrived"
    UNHEARD = "the request was applied and its reply was lost"
    RETRIED = "the client lost the reply, sent the request again and reports its own object as existing"
    CONFLICT = "409 to a request that was not applied"


class FaultyStore:
    """`inner` seen through `faults`, one per call to create, get or list; none once they are used up.

    `before` is told the name and the key of every call and may do anything: that is another process at work.
    """

    def __init__(
        self,
        inner: ObjectStore | None = None,
        faults: Sequence[Fault] = (),
        before: Callable[[str, str], None] = lambda call, key: None,
    ) -> None:
        self.inner = inner if inner is not None else MemoryStore()
        self.calls: list[tuple[str, str]] = []
        self._faults = list(faults)
        self._before = before

    @property
    def url(self) -> str:
        return self.inner.url

    def create(self, key: str, data: bytes) -> None:
        self._call("create", key, lambda: self.inner.create(key, data))

    def put(self, key: str, data: bytes) -> None:
        self._call("put", key, lambda: self.inner.put(key, data))

    def get(self, key: str) -> bytes:
        return self._call("get", key, lambda: self.inner.get(key))

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return self._call("get_ranges", key, lambda: self.inner.get_ranges(key, ranges))

    def list(self, prefix: str) -> list[str]:
        return self._call("list", prefix, lambda: self.inner.list(prefix))

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._call("delete", key, lambda key=key: self.inner.delete([key]))  # type: ignore[misc]

    def probe(self) -> None:
        self.inner.probe()

    def _call(self, name: str, key: str, apply: Callable[[], T]) -> T:
        self.calls.append((name, key))
        self._before(name, key)
        fault = self._faults.pop(0) if self._faults else Fault.NONE
        creates = name == "create"
        if fault is Fault.LOST or (fault is Fault.CONFLICT and not creates):
            raise StoreError(f"{name} {key}: 503")
        if fault is Fault.CONFLICT:
            raise AlreadyExistsError(f"{name} {key}: 409")
        answer = apply()
        if fault is Fault.RETRIED and creates:
            raise AlreadyExistsError(f"{name} {key}: 412")
        if fault in (Fault.UNHEARD, Fault.RETRIED):
            raise StoreError(f"{name} {key}: timed out")
        return answer
