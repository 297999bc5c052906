"""The store model keeps the contract of stores, and its faults are those that real stores have."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.checkpoint.store import NotFoundError, StoreError
from microstream.testing.simulation.kernel import Faults, World
from microstream.testing.simulation.store import Bucket, SimStore, StoreFaults

seeds = st.integers(0, 2**32)
SHAKY = StoreFaults(server_error=0.2, conflict=0.2, retried=0.2)
LOSSY = {"lost_request": 0.1, "lost_reply": 0.1, "late_request": 0.1}


def in_world(
    seed: int, work: Callable[[SimStore], None], *, faults: StoreFaults | None = None, lossy: bool = False
) -> Bucket:
    """Run `work` as a process of a fresh world with a bucket."""
    world = World(seed, Faults(**LOSSY) if lossy else None)
    bucket = Bucket()
    store = SimStore(world, bucket, faults=faults)

    async def main() -> None:
        await world.start(world.actor("client"), work, store)

    world.run(main())
    return bucket


def test_objects_come_back_in_whole_and_in_pieces_and_are_listed_in_order() -> None:
    def work(store: SimStore) -> None:
        store.put("b/2", b"hello world")
        store.create("b/1", b"")
        store.put("c", b"x")
        assert store.get("b/2") == b"hello world"
        assert store.get_ranges("b/2", [(6, 5), (0, 2)]) == [b"world", b"he"]
        assert store.list("b/") == ["b/1", "b/2"]
        store.delete(["b/1", "never there"])
        assert store.list("") == ["b/2", "c"]
        with pytest.raises(NotFoundError):
            store.get("b/1")

    in_world(0, work)


@given(seed=seeds)
@settings(deadline=None, max_examples=30)
def test_a_create_has_one_winner_whatever_the_store_answers(seed: int) -> None:
    world = World(seed, Faults(**LOSSY))
    bucket = Bucket()
    store = SimStore(world, bucket, faults=SHAKY)
    won: list[str] = []

    def race(name: str) -> None:
        for _ in range(5):
            try:
                store.create("key", name.encode())
                won.append(name)
                return
            except StoreError:
                continue

    async def main() -> None:
        runners = [world.start(world.actor(name), race, name) for name in ("a", "b", "c")]
        for runner in runners:
            await runner

    world.run(main())

    assert len(won) <= 1
    assert not won or bucket.objects["key"] == won[0].encode()


def test_a_client_is_told_that_a_key_exists_which_is_its_own_or_is_not_there_at_all() -> None:
    heard: set[tuple[str, bool]] = set()

    for seed in range(100):
        answers: list[str] = []

        def work(store: SimStore, answers: list[str] = answers) -> None:
            try:
                store.create("key", b"mine")
            except StoreError as refusal:
                answers.append(type(refusal).__name__)

        bucket = in_world(seed, work, faults=SHAKY, lossy=True)
        heard |= {(answer, "key" in bucket.objects) for answer in answers}

    assert heard == {
        ("AlreadyExistsError", True),
        ("AlreadyExistsError", False),
        ("StoreError", True),
        ("StoreError", False),
    }


@given(seed=seeds, bit=st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_damage_changes_exactly_what_it_should(seed: int, bit: int) -> None:
    bucket = Bucket()
    bucket.create("key", b"0123456789")

    bucket.flip_bit("key", bit)
    flipped = bucket.get("key")
    bucket.truncate("key", 4)

    assert sum(bin(a ^ b).count("1") for a, b in zip(flipped, b"0123456789", strict=True)) == 1
    assert bucket.get("key") == flipped[:4]


def test_a_rolled_back_bucket_is_what_it_was() -> None:
    bucket = Bucket()
    bucket.create("a", b"1")
    copy = bucket.snapshot()
    bucket.create("b", b"2")
    bucket.delete("a")

    bucket.roll_back(copy)

    assert bucket.objects == {"a": b"1"}
