from __future__ import annotations

from pathlib import Path

import pytest

from microstream.checkpoint.counting import NO_TRAFFIC, CountingStore, Traffic
from microstream.checkpoint.local import LocalStore
from microstream.checkpoint.memory import MemoryStore
from microstream.checkpoint.store import NotFoundError, ObjectStore
from microstream.testing.stores import StoreContract


class TestACountingStoreIsAStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ObjectStore:
        return CountingStore(LocalStore(tmp_path / "checkpoint"))


def test_requests_and_bytes_are_counted_until_they_are_taken() -> None:
    store = CountingStore(MemoryStore())
    store.create("job.json", b"12345")
    store.put("data/a", b"123")
    store.get("job.json")
    store.get_ranges("data/a", [(0, 1), (1, 1)])
    store.list("data/")
    store.delete(["data/a"])

    traffic = store.take()

    assert dict(traffic.requests) == {"create": 1, "put": 1, "get": 3, "list": 1, "delete": 1}
    assert (traffic.bytes_written, traffic.bytes_read) == (8, 7)
    assert store.take() == NO_TRAFFIC


def test_a_request_that_fails_counts_as_well() -> None:
    store = CountingStore(MemoryStore())

    with pytest.raises(NotFoundError):
        store.get("nothing")

    assert store.take() == Traffic(requests=(("get", 1),))
