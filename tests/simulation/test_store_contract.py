"""The store model passes the contract that real stores pass."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

from microstream.testing.simulation.kernel import World
from microstream.testing.simulation.store import Bucket, SimStore
from microstream.testing.stores import StoreContract

T = TypeVar("T")


class OutsideOfTheWorld:
    """A store whose every call is a little world of its own, for callers that are real threads."""

    def __init__(self) -> None:
        self._bucket = Bucket()
        self._turn = threading.Lock()

    @property
    def url(self) -> str:
        return "sim://checkpoint"

    def create(self, key: str, data: bytes) -> None:
        self._in_world(lambda store: store.create(key, data))

    def put(self, key: str, data: bytes) -> None:
        self._in_world(lambda store: store.put(key, data))

    def get(self, key: str) -> bytes:
        return self._in_world(lambda store: store.get(key))

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return self._in_world(lambda store: store.get_ranges(key, ranges))

    def list(self, prefix: str) -> list[str]:
        return self._in_world(lambda store: store.list(prefix))

    def delete(self, keys: Sequence[str]) -> None:
        self._in_world(lambda store: store.delete(keys))

    def probe(self) -> None:
        self._in_world(lambda store: store.probe())

    def _in_world(self, call: Callable[[SimStore], T]) -> T:
        with self._turn:
            world = World(0)
            store = SimStore(world, self._bucket)

            async def main() -> T:
                return await world.start(world.actor("client"), call, store)

            return world.run(main())


class TestSimStore(StoreContract):
    @pytest.fixture
    def store(self) -> OutsideOfTheWorld:
        return OutsideOfTheWorld()
