from __future__ import annotations

from collections.abc import Sequence

import pytest
from faulty_store import Fault, FaultyStore

from microstream.checkpoint.memory import MemoryStore
from microstream.checkpoint.probing import check_store
from microstream.checkpoint.store import ObjectStore, StoreError
from microstream.errors import CheckpointError
from microstream.testing.stores import StoreContract


class Overwrites(MemoryStore):
    def create(self, key: str, data: bytes) -> None:
        self.put(key, data)


class ListsLate(MemoryStore):
    def list(self, prefix: str) -> list[str]:
        return []


class Garbles(MemoryStore):
    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return [b"?" for _ in ranges]


class KeepsAll(MemoryStore):
    def delete(self, keys: Sequence[str]) -> None:
        pass


class ForbidsDelete(MemoryStore):
    def delete(self, keys: Sequence[str]) -> None:
        raise StoreError("403")


@pytest.mark.parametrize(
    ("store", "said"),
    [
        (Overwrites(), "ignores If-None-Match"),
        (ListsLate(), "not listed"),
        (Garbles(), "ranges of an object"),
        (KeepsAll(), "can still be read"),
        (ForbidsDelete(), "cannot be deleted"),
        (FaultyStore(faults=[Fault.LOST]), "cannot be created"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_store_cannot_do_is_said(store: ObjectStore, said: str) -> None:
    with pytest.raises(CheckpointError, match=said) as raised:
        check_store(store, "probe/x", advice="Take another.")

    assert str(raised.value).endswith("Take another.")


def test_all_that_a_store_cannot_do_is_said_at_once() -> None:
    class Useless(Overwrites, ListsLate, Garbles, ForbidsDelete):
        pass

    with pytest.raises(CheckpointError) as raised:
        check_store(Useless(), "probe/x", advice="")

    assert len(raised.value.problems) == 4


def test_a_store_that_overwrites_fails_the_shipped_contract() -> None:
    with pytest.raises(pytest.fail.Exception):
        StoreContract().test_create_never_overwrites(Overwrites())
    with pytest.raises(AssertionError):
        StoreContract().test_of_many_creators_one_wins(Overwrites())
