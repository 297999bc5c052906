"""Tests that every object store must pass. Subclass `StoreContract` and give it a `store` fixture::

class TestMyStore(StoreContract):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return MyStore(...)  # empty
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from microstream.checkpoint.store import AlreadyExistsError, NotFoundError, ObjectStore

__all__ = ["StoreContract"]

WRITERS = 20
BIG = 300_000
"""Bytes of an object that no file system and no socket writes at once."""


class StoreContract:
    """What the commit protocol rests on, as pytest tests. `rounds` races are run; slow stores may run fewer."""

    rounds = 10

    def test_what_is_created_is_read_back(self, store: ObjectStore) -> None:
        store.create("manifest/a", b"content")

        assert store.get("manifest/a") == b"content"

    def test_what_is_put_is_read_back(self, store: ObjectStore) -> None:
        store.put("data/00000001/a.arrow", bytes(range(256)))

        assert store.get("data/00000001/a.arrow") == bytes(range(256))

    def test_empty_content_is_an_object_like_any_other(self, store: ObjectStore) -> None:
        store.create("epoch/empty", b"")

        with pytest.raises(AlreadyExistsError):
            store.create("epoch/empty", b"second")
        assert store.get("epoch/empty") == b""
        assert store.list("epoch/") == ["epoch/empty"]

    def test_create_never_overwrites(self, store: ObjectStore) -> None:
        store.create("job.json", b"first")

        with pytest.raises(AlreadyExistsError):
            store.create("job.json", b"second")

        assert store.get("job.json") == b"first"

    def test_create_does_not_overwrite_what_was_put(self, store: ObjectStore) -> None:
        store.put("data/a", b"first")

        with pytest.raises(AlreadyExistsError):
            store.create("data/a", b"second")

        assert store.get("data/a") == b"first"

    def test_a_deleted_key_can_be_created_again(self, store: ObjectStore) -> None:
        store.create("pins/a", b"first")
        store.delete(["pins/a"])

        store.create("pins/a", b"second")

        assert store.get("pins/a") == b"second"

    def test_of_many_creators_one_wins(self, store: ObjectStore) -> None:
        for number in range(self.rounds):
            key = f"manifest/{number:020d}"

            winners = _race(lambda me, key=key: _wins(store, key, b"%04d" % me))  # type: ignore[misc]

            assert len(winners) == 1
            assert store.get(key) == b"%04d" % winners[0]

    def test_readers_never_see_a_part(self, store: ObjectStore) -> None:
        whole = b"x" * BIG
        done = threading.Event()
        torn: list[int] = []

        def read(key: str) -> None:
            while not done.is_set():
                try:
                    seen = store.get(key)
                except NotFoundError:
                    continue
                if seen != whole:
                    torn.append(len(seen))
                return

        for number in range(self.rounds):
            done.clear()
            readers = [threading.Thread(target=read, args=(f"manifest/{number}",)) for _ in range(4)]
            for reader in readers:
                reader.start()
            store.create(f"manifest/{number}", whole)
            done.set()
            for reader in readers:
                reader.join()

        assert torn == []

    def test_an_absent_key_is_reported_as_absent(self, store: ObjectStore) -> None:
        store.create("epoch/00000001", b"owner")

        with pytest.raises(NotFoundError):
            store.get("epoch/00000002")
        with pytest.raises(NotFoundError):
            store.get_ranges("data/absent", [(0, 4)])

    def test_a_key_below_another_key_is_absent(self, store: ObjectStore) -> None:
        store.create("job.json", b"{}")

        with pytest.raises(NotFoundError):
            store.get("job.json/below")

    def test_ranges_come_back_in_the_order_asked_for(self, store: ObjectStore) -> None:
        data = bytes(n % 251 for n in range(BIG))
        store.put("data/a", data)
        ranges = [(200_000, 50_000), (0, 3), (1, 4), (10, 0), (299_999, 1), (0, BIG)]

        pieces = store.get_ranges("data/a", ranges)

        assert pieces == [data[offset : offset + length] for offset, length in ranges]

    def test_a_range_past_the_end_is_short(self, store: ObjectStore) -> None:
        store.put("data/a", b"0123456789")

        assert store.get_ranges("data/a", [(8, 10)]) == [b"89"]
        assert store.get_ranges("data/a", [(10, 5), (5_000_000, 5)]) == [b"", b""]

    def test_no_ranges_are_no_pieces(self, store: ObjectStore) -> None:
        store.put("data/a", b"0123456789")

        assert store.get_ranges("data/a", []) == []

    def test_a_listing_is_sorted_and_cut_by_prefix(self, store: ObjectStore) -> None:
        for key in ("manifest/2", "manifest/10", "manifest/1", "manifests", "data/x/1", "data/y/1", "job.json"):
            store.create(key, b".")

        assert store.list("manifest/") == ["manifest/1", "manifest/10", "manifest/2"]
        assert store.list("manifest/1") == ["manifest/1", "manifest/10"]
        assert store.list("data/") == ["data/x/1", "data/y/1"]
        assert len(store.list("")) == 7

    def test_a_listing_of_nothing_is_empty(self, store: ObjectStore) -> None:
        assert store.list("manifest/") == []
        assert store.list("") == []

    def test_a_listing_follows_every_write_and_delete_at_once(self, store: ObjectStore) -> None:
        for number in range(5):
            store.create(f"epoch/{number}", b".")
            assert len(store.list("epoch/")) == number + 1

        store.delete(["epoch/1", "epoch/3"])

        assert store.list("epoch/") == ["epoch/0", "epoch/2", "epoch/4"]

    def test_deleting_what_is_absent_is_no_error(self, store: ObjectStore) -> None:
        store.put("data/a", b".")

        store.delete(["data/absent", "data/a", "nowhere/at/all"])
        store.delete([])

        assert store.list("") == []

    def test_the_url_is_text_and_stays(self, store: ObjectStore) -> None:
        before = store.url

        store.create("job.json", b"{}")

        assert before
        assert store.url == before

    def test_the_probe_passes_and_leaves_nothing(self, store: ObjectStore) -> None:
        store.probe()
        store.probe()

        assert store.list("") == []


def _wins(store: ObjectStore, key: str, data: bytes) -> bool:
    try:
        store.create(key, data)
    except AlreadyExistsError:
        return False
    return True


def _race(wins: Callable[[int], bool]) -> list[int]:
    """Who won, of `WRITERS` threads that start at the same moment."""
    start = threading.Barrier(WRITERS)

    def run(me: int) -> bool:
        start.wait()
        return wins(me)

    with ThreadPoolExecutor(WRITERS) as pool:
        won = list(pool.map(run, range(WRITERS)))
    return [me for me, first in enumerate(won) if first]
