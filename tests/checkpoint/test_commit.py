from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from faulty_store import Fault, FaultyStore
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import after, first, manifest

from microstream.checkpoint.codec import decode, encode
from microstream.checkpoint.commit import check_not_fenced, commit, head, read_manifest
from microstream.checkpoint.keys import epoch_key, manifest_key
from microstream.checkpoint.manifest import Kind
from microstream.checkpoint.memory import MemoryStore
from microstream.checkpoint.retry import Retry
from microstream.checkpoint.store import NotFoundError, StoreError
from microstream.errors import CheckpointError, FencedError, InternalError

ANY_FAULTS = st.lists(st.sampled_from(Fault), max_size=12)


def test_an_empty_store_has_no_head() -> None:
    assert head(MemoryStore()) is None


def test_what_was_committed_last_is_the_head() -> None:
    store = MemoryStore()
    start = first()
    following = after(start)

    commit(store, start, previous=None, epoch=1)
    commit(store, following, previous=start, epoch=1)

    assert head(store) == following
    assert read_manifest(store, 0) == start


def test_the_head_ignores_files_that_are_no_manifests() -> None:
    store = MemoryStore()
    commit(store, first(), previous=None, epoch=1)
    store.put("manifest/zz-notes.txt", b"mine")

    assert head(store) == first()


def test_the_head_is_looked_for_again_when_gc_removed_it_between_list_and_get() -> None:
    inner = MemoryStore()
    newer = manifest(seq=10, commit_id="newer")
    inner.put(manifest_key(9), encode(manifest()))

    def collect(call: str, key: str) -> None:
        if call == "get" and key == manifest_key(9):
            inner.put(manifest_key(10), encode(newer))
            inner.delete([manifest_key(9)])

    assert head(FaultyStore(inner, before=collect)) == newer


def test_a_damaged_head_is_an_error_that_names_it() -> None:
    store = MemoryStore()
    store.put(manifest_key(9), encode(manifest())[:-3])

    with pytest.raises(CheckpointError, match=f"{store.url}/{manifest_key(9)}"):
        head(store)


@given(faults=ANY_FAULTS)
@settings(deadline=None)
def test_a_driver_alone_commits_whatever_the_store_answers(faults: list[Fault]) -> None:
    store = FaultyStore(faults=faults)
    wanted = first()

    commit(store, wanted, previous=None, epoch=1, retry=Retry(attempts=len(faults) + 1))

    assert head(store.inner) == wanted


@given(faults=ANY_FAULTS, attempts=st.integers(1, 3))
@settings(deadline=None)
def test_a_driver_alone_is_never_told_that_it_is_fenced(faults: list[Fault], attempts: int) -> None:
    store = FaultyStore(faults=faults)
    wanted, done = first(), False

    while not done:
        try:
            commit(store, wanted, previous=None, epoch=1, retry=Retry(attempts=attempts))
            done = True
        except StoreError:
            continue

    assert head(store.inner) == wanted


@given(faults=ANY_FAULTS, attempts=st.integers(1, 4))
@settings(deadline=None)
def test_a_driver_whose_place_is_taken_never_succeeds(faults: list[Fault], attempts: int) -> None:
    store = FaultyStore(faults=faults)
    other = first(commit_id="other", owner="other")
    store.inner.create(manifest_key(0), encode(other))

    with pytest.raises((FencedError, StoreError)):
        commit(store, first(), previous=None, epoch=1, retry=Retry(attempts=attempts))

    assert head(store.inner) == other


@given(faults=ANY_FAULTS, attempts=st.integers(1, 4))
@settings(deadline=None)
def test_a_driver_that_was_taken_over_never_succeeds(faults: list[Fault], attempts: int) -> None:
    store = FaultyStore(faults=faults)
    store.inner.create(epoch_key(2), b"a newer driver")

    with pytest.raises((FencedError, StoreError)):
        commit(store, first(), previous=None, epoch=1, retry=Retry(attempts=attempts))


def test_the_error_of_the_loser_names_the_winner() -> None:
    store = MemoryStore()
    store.create(manifest_key(0), encode(first(commit_id="other", owner="host/boot/8/1/other", epoch=1)))

    with pytest.raises(FencedError, match="host/boot/8/1/other") as raised:
        commit(store, first(), previous=None, epoch=1)

    assert (raised.value.seq, raised.value.epoch, raised.value.owner) == (0, 1, "host/boot/8/1/other")


def test_a_zombie_whose_place_was_collected_stops_at_the_epoch() -> None:
    store = MemoryStore()
    store.create(epoch_key(3), b"the owner")
    store.create(manifest_key(50), encode(manifest(seq=50, floor=40, epoch=3)))
    zombie = manifest(seq=9)

    with pytest.raises(FencedError, match="epoch 3; this one has 2"):
        commit(store, after(zombie), previous=zombie, epoch=2)

    found = head(store)
    assert found is not None
    assert found.seq == 50


def test_nothing_is_written_when_an_invariant_is_broken() -> None:
    store = FaultyStore()

    with pytest.raises(InternalError, match="seq 12 does not follow seq 9"):
        commit(store, after(manifest(), seq=12), previous=manifest(), epoch=2)
    with pytest.raises(InternalError, match="driver of epoch 1 wrote epoch 2"):
        commit(store, after(manifest()), previous=manifest(), epoch=1)

    assert store.calls == []


def test_steps_three_and_four_hold_for_every_kind() -> None:
    for kind in Kind:
        store = MemoryStore()
        before = manifest()
        store.create(epoch_key(3), b"a newer driver")

        with pytest.raises(FencedError):
            commit(store, after(before, kind=kind), previous=before, epoch=2)


def test_each_step_is_tried_as_often_as_asked_with_a_pause_before_each_further_try() -> None:
    pauses: list[int] = []
    store = FaultyStore(faults=[Fault.LOST] * 100)

    with pytest.raises(StoreError, match="failed 3 times") as raised:
        commit(store, first(), previous=None, epoch=1, retry=Retry(attempts=3, pause=pauses.append))

    assert pauses == [1, 2]
    assert type(raised.value) is StoreError


def test_an_outcome_that_stayed_unknown_is_settled_by_committing_again() -> None:
    store = FaultyStore(faults=[Fault.UNHEARD, Fault.LOST])
    once = Retry(attempts=1)

    with pytest.raises(StoreError):
        commit(store, first(), previous=None, epoch=1, retry=once)
    commit(store, first(), previous=None, epoch=1, retry=once)

    assert head(store.inner) == first()


def test_an_epoch_that_cannot_be_read_is_neither_fenced_nor_not() -> None:
    store = FaultyStore(faults=[Fault.LOST] * 5)

    with pytest.raises(StoreError) as raised:
        check_not_fenced(store, 1)

    assert not isinstance(raised.value, NotFoundError)


def test_of_many_drivers_that_commit_the_same_number_one_goes_on() -> None:
    store = MemoryStore()
    commit(store, first(), previous=None, epoch=1)

    def drive(me: int) -> bool:
        mine = replace(after(first()), commit_id=f"commit of {me}")
        try:
            commit(store, mine, previous=first(), epoch=1)
        except FencedError:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        won = [me for me, went_on in enumerate(pool.map(drive, range(20))) if went_on]

    assert len(won) == 1
    assert decode(store.get(manifest_key(1)), manifest_key(1)).commit_id == f"commit of {won[0]}"
