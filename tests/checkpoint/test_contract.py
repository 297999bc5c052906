from __future__ import annotations

import pytest

from microstream.checkpoint.local import LocalStore
from microstream.checkpoint.memory import MemoryStore
from microstream.checkpoint.objects import FsspecStore
from microstream.testing.stores import StoreContract


class TestLocalStore(StoreContract):
    rounds = 50

    @pytest.fixture
    def store(self, local_store: LocalStore) -> LocalStore:
        return local_store


class TestMemoryStore(StoreContract):
    rounds = 50

    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


class TestS3Store(StoreContract):
    rounds = 3

    @pytest.fixture
    def store(self, s3_store: FsspecStore) -> FsspecStore:
        return s3_store
