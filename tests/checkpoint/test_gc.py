from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from faulty_store import Fault, FaultyStore
from history import HOUR_US, Driver, head_is_whole, missing
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import manifest, operator, pending, run, segment, sink

from microstream.checkpoint.commit import head, read_manifest
from microstream.checkpoint.gc import Collected, Summary, objects_of, plan_floor, retained
from microstream.checkpoint.keys import MANIFESTS, manifest_key, seq_of
from microstream.checkpoint.manifest import HASH_SPACE, Kept, Kind, OutboxBatch, OutboxLane
from microstream.checkpoint.memory import MemoryStore
from microstream.checkpoint.pins import pin
from microstream.checkpoint.retry import Retry
from microstream.checkpoint.store import StoreError
from microstream.errors import CheckpointError, FencedError

ONCE = Retry(attempts=1)


def seqs(store: MemoryStore) -> list[int]:
    return [seq for key in store.list(MANIFESTS) if (seq := seq_of(key)) is not None]


def after_batches(count: int) -> Driver:
    driver = Driver(MemoryStore())
    for _ in range(count):
        driver.batch()
    return driver


# Where the floor goes


def kept(seq: int, time_us: int) -> Kept:
    return Kept(seq=seq, commit_id=f"c{seq}", time_us=time_us)


def test_the_newest_manifests_stay_the_coming_one_included() -> None:
    assert plan_floor(manifest(seq=99, floor=0), (), newest=100, retain_us=0, now_us=0).floor == 1
    assert plan_floor(manifest(seq=99, floor=0), (), newest=1, retain_us=0, now_us=0).floor == 100


def test_the_floor_never_falls() -> None:
    assert plan_floor(manifest(seq=9, floor=5), (), newest=100, retain_us=0, now_us=0).floor == 5


def test_the_first_manifest_of_each_hour_is_kept_for_retain() -> None:
    seen = [kept(seq, seq * HOUR_US // 3) for seq in range(10)]

    planned = plan_floor(manifest(seq=9, floor=0), seen, newest=2, retain_us=2 * HOUR_US, now_us=10 * HOUR_US // 3)

    assert planned.floor == 9
    assert [one.seq for one in planned.kept] == [5, 6]


@given(steps=st.lists(st.tuples(st.integers(0, 3 * HOUR_US), st.booleans()), max_size=40), newest=st.integers(1, 10))
@settings(deadline=None)
def test_however_often_the_floor_moves_one_manifest_per_hour_stays(steps: list[tuple[int, bool]], newest: int) -> None:
    retain_us, history, now_us = 24 * HOUR_US, [kept(0, 0)], 0
    newest_head = manifest(seq=0, floor=0)
    for gap_us, collects in steps:
        now_us += gap_us
        if collects:
            seen = [one for one in history if newest_head.floor <= one.seq]
            planned = plan_floor(newest_head, seen, newest=newest, retain_us=retain_us, now_us=now_us)
        else:
            planned = newest_head
        history.append(kept(newest_head.seq + 1, now_us))
        newest_head = manifest(seq=newest_head.seq + 1, floor=planned.floor, kept=planned.kept)

    stay = {one.seq for one in newest_head.kept}
    hours = {one.time_us // HOUR_US for one in history if one.time_us > now_us - retain_us}
    covered = {one.time_us // HOUR_US for one in history if one.seq in stay or one.seq >= newest_head.floor}

    assert hours <= covered
    assert all(a.time_us // HOUR_US < b.time_us // HOUR_US for a, b in pairwise(newest_head.kept))
    assert all(one.seq < newest_head.floor for one in newest_head.kept)


# What a manifest needs


def test_a_manifest_needs_its_runs_and_its_outbox() -> None:
    whole = manifest(sinks=(sink(pending=(pending(4),)),))

    assert objects_of(whole) == {segment().object}


def test_manifests_are_read_once() -> None:
    driver = after_batches(3)
    known: dict[int, Summary] = {}
    store = FaultyStore(driver.store)
    retained(store, driver.head, known)
    store.calls.clear()

    again = retained(store, driver.head, known)

    assert [one.seq for one in again] == [0, 1, 2, 3]
    assert store.calls == []


# Collection


def test_what_no_retained_manifest_names_is_deleted_and_nothing_else() -> None:
    driver = after_batches(10)
    driver.raise_floor(newest=3)
    lost_attempt = driver.put(driver.head.batch)
    in_flight = driver.put(driver.head.batch + 1)

    collected = driver.collect()

    assert seqs(driver.store) == [9, 10, 11]
    assert [missing(driver.store, seq) for seq in (9, 10, 11)] == [set(), set(), set()]
    assert len(driver.store.list("data/")) == 4
    assert lost_attempt not in driver.store.list("data/")
    assert in_flight in driver.store.list("data/")
    assert collected == Collected(data=8, manifests=9)


def test_a_second_collection_finds_nothing() -> None:
    driver = after_batches(10)
    driver.raise_floor(newest=3)
    driver.collect()

    assert driver.collect() == Collected(data=0, manifests=0)


def test_hourly_manifests_can_still_be_opened() -> None:
    driver = after_batches(12)
    driver.raise_floor(newest=2, retain_us=24 * HOUR_US)
    driver.collect()

    assert [one.seq for one in driver.head.kept] == [0, 3, 6, 9]
    assert seqs(driver.store) == [0, 3, 6, 9, 12, 13]
    assert all(not missing(driver.store, seq) for seq in seqs(driver.store))


def test_older_epochs_leave_nothing_and_newer_ones_are_not_touched() -> None:
    store = MemoryStore()
    old = Driver(store)
    zombie_bundle = old.put(77)
    driver = Driver(store)
    driver.batch()
    newer = "data/00000009/0000000000000000-d-aa.arrow"
    foreign = "data/readme.txt"
    for name in (newer, foreign):
        store.put(name, b".")

    driver.collect()

    assert zombie_bundle not in store.list("data/")
    assert {newer, foreign} <= set(store.list("data/"))


def test_compactions_in_flight_are_left_alone() -> None:
    driver = after_batches(5)
    abandoned = driver.put(1, "c")
    running = driver.put(2, "c")
    begun_now = driver.put(driver.head.batch, "c")

    driver.collect(compacting={2})

    assert abandoned not in driver.store.list("data/")
    assert {running, begun_now} <= set(driver.store.list("data/"))


def test_the_junk_manifest_of_a_zombie_is_swept_up() -> None:
    driver = after_batches(10)
    driver.raise_floor(newest=2)
    driver.collect()
    driver.store.create(manifest_key(5), b"junk")

    driver.collect()

    assert seqs(driver.store) == [10, 11]


def test_a_driver_that_was_taken_over_deletes_nothing() -> None:
    driver = after_batches(6)
    driver.raise_floor(newest=2)
    Driver(driver.store)
    before = driver.store.list("")

    with pytest.raises(FencedError):
        driver.collect()

    assert driver.store.list("") == before


def test_a_missing_retained_manifest_stops_the_collection_before_it_deletes() -> None:
    driver = after_batches(6)
    garbage = driver.put(0)
    driver.store.delete([manifest_key(3)])

    with pytest.raises(CheckpointError, match=r"3\.json\.zst is missing"):
        driver.collect()

    assert garbage in driver.store.list("data/")


def test_an_unreadable_pin_stops_the_collection_before_it_deletes() -> None:
    driver = after_batches(6)
    garbage = driver.put(0)
    driver.store.put("pins/broken", b"{")

    with pytest.raises(CheckpointError, match="pins/broken"):
        driver.collect()

    assert garbage in driver.store.list("data/")


# Interleavings: another process acts in full before the n-th call, for every n.


def calls_of_a_collection() -> int:
    driver = after_batches(8)
    driver.raise_floor(newest=2, retain_us=2 * HOUR_US)
    store = FaultyStore(driver.store)
    driver.store = store  # type: ignore[assignment]
    driver.collect()
    return len(store.calls)


STEPS = range(calls_of_a_collection())


@pytest.mark.parametrize("step", STEPS)
def test_a_collection_that_breaks_off_is_finished_by_the_next(step: int) -> None:
    driver = after_batches(8)
    driver.raise_floor(newest=2, retain_us=2 * HOUR_US)
    inner = driver.store
    driver.store = FaultyStore(inner, [Fault.NONE] * step + [Fault.LOST])  # type: ignore[assignment]

    with pytest.raises(StoreError):
        driver.collect(retry=ONCE)
    assert all(not missing(inner, seq) for seq in range(driver.head.floor, driver.head.seq + 1))
    driver.collect()

    untouched = after_batches(8)
    untouched.raise_floor(newest=2, retain_us=2 * HOUR_US)
    untouched.collect()
    assert seqs(inner) == seqs(untouched.store)
    assert len(inner.list("data/")) == len(untouched.store.list("data/"))


@pytest.mark.parametrize("step", STEPS)
def test_a_takeover_at_any_moment_of_a_collection_loses_nothing(step: int) -> None:
    driver = after_batches(8)
    driver.raise_floor(newest=2, retain_us=2 * HOUR_US)
    inner, calls = driver.store, iter(range(1_000))
    newer: list[Driver] = []

    def take_over(call: str, key: str) -> None:
        if next(calls) == step:
            newer.append(Driver(inner))
            newer[0].batch()
            newer[0].batch()

    driver.store = FaultyStore(inner, before=take_over)  # type: ignore[assignment]
    with suppress(FencedError):
        driver.collect()

    assert head(inner) == newer[0].head
    assert all(not missing(inner, seq) for seq in range(newer[0].head.floor, newer[0].head.seq + 1))
    assert all(not missing(inner, one.seq) for one in newer[0].head.kept)
    newer[0].raise_floor(newest=1)
    newer[0].collect()
    assert head_is_whole(inner)


@pytest.mark.parametrize("step", STEPS)
def test_batches_committed_during_a_collection_lose_nothing(step: int) -> None:
    driver = after_batches(8)
    driver.raise_floor(newest=2)
    inner, calls = driver.store, iter(range(1_000))

    def commit_batches(call: str, key: str) -> None:
        if next(calls) == step:
            driver.store = inner
            driver.batch()
            driver.batch()

    driver.store = FaultyStore(inner, before=commit_batches)  # type: ignore[assignment]
    driver.collect()

    assert head(inner) == driver.head
    assert all(not missing(inner, seq) for seq in range(driver.head.floor, driver.head.seq + 1))


@pytest.mark.parametrize("wanted", [0, 3, 8], ids=["below the floor", "kept", "retained"])
@pytest.mark.parametrize("step", STEPS)
def test_a_pin_made_at_any_moment_of_a_collection_holds_or_is_refused(step: int, wanted: int) -> None:
    driver = after_batches(8)
    savepoint = read_manifest(driver.store, wanted)
    driver.raise_floor(newest=2, retain_us=2 * HOUR_US)
    inner, calls = driver.store, iter(range(1_000))
    refused: list[CheckpointError] = []

    def make_pin(call: str, key: str) -> None:
        if next(calls) == step:
            try:
                pin(inner, "before-upgrade", savepoint, id="p1")
            except CheckpointError as problem:
                refused.append(problem)

    driver.store = FaultyStore(inner, before=make_pin)  # type: ignore[assignment]
    driver.collect()

    assert bool(refused) == (inner.list("pins/") == [])
    assert bool(refused) or not missing(inner, wanted)


@pytest.mark.parametrize("step", range(3))
def test_a_collection_at_any_moment_of_a_pin_leaves_it_whole_or_refused(step: int) -> None:
    driver = after_batches(8)
    savepoint = read_manifest(driver.store, 4)
    calls = iter(range(1_000))

    def collect_all(call: str, key: str) -> None:
        if next(calls) == step:
            driver.raise_floor(newest=2)
            driver.collect()

    refused = False
    try:
        pin(FaultyStore(driver.store, before=collect_all), "before-upgrade", savepoint, id="p1")
    except CheckpointError:
        refused = True
    driver.raise_floor(newest=2)
    driver.collect()

    assert refused == (driver.store.list("pins/") == [])
    assert refused or not missing(driver.store, 4)


def test_a_pinned_manifest_stays_until_it_is_unpinned() -> None:
    driver = after_batches(5)
    savepoint = driver.head
    pin(driver.store, "before-upgrade", savepoint, id="p1")
    for _ in range(6):
        driver.batch()
    driver.raise_floor(newest=1)
    driver.collect()
    assert read_manifest(driver.store, savepoint.seq) == savepoint
    assert not missing(driver.store, savepoint.seq)

    driver.store.delete(["pins/before-upgrade"])
    driver.collect()

    assert seqs(driver.store) == [driver.head.seq]
    assert len(driver.store.list("data/")) == 2


def test_rows_that_wait_in_the_outbox_are_not_collected() -> None:
    driver = after_batches(2)
    name = driver.put(driver.head.batch)
    lane = OutboxLane(lane=0, segments=(segment(name),), chunks=(7,))
    waiting = OutboxBatch(batch=driver.head.batch, time_us=1, lanes=(lane,))
    driver.write(Kind.CONFIRM, operators=(), sinks=(sink(published_through=-1, pending=(waiting,)),))
    driver.raise_floor(newest=1)

    driver.collect()

    assert driver.store.list("data/") == [name]


def test_runs_of_all_operators_are_needed() -> None:
    one = operator(id="a", runs=(run(3, 0, 5, segment=segment("data/a")),))
    two = operator(id="b", runs=(run(3, 5, HASH_SPACE, segment=segment("data/b")),))

    assert objects_of(manifest(operators=(one, two), sinks=())) == {"data/a", "data/b"}


def test_rows_that_a_sink_holds_are_needed() -> None:
    lane = OutboxLane(lane=0, segments=(segment("data/held"),), chunks=(7,))
    waiting = OutboxBatch(batch=4, time_us=1, lanes=(lane,))

    assert objects_of(manifest(operators=(), sinks=(sink(pending=(), held=(waiting,)),))) == {"data/held"}
