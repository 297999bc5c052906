from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count

import pytest
from faulty_store import Fault, FaultyStore
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import JOB, after, first, manifest

from microstream.checkpoint.codec import JobFile, decode_job
from microstream.checkpoint.commit import commit, head
from microstream.checkpoint.keys import JOB as JOB_KEY
from microstream.checkpoint.keys import epoch_key
from microstream.checkpoint.manifest import Kind, Manifest
from microstream.checkpoint.memory import MemoryStore
from microstream.checkpoint.owner import Owner
from microstream.checkpoint.records import dump
from microstream.checkpoint.retry import Retry
from microstream.checkpoint.store import ObjectStore, StoreError
from microstream.checkpoint.takeover import (
    WATCH_US,
    EpochFile,
    Go,
    Refuse,
    Wait,
    check_belongs,
    claim,
    fence,
    job_of,
    may_take_over,
    watch,
)
from microstream.errors import CheckpointError, FencedError

ANY_FAULTS = st.lists(st.sampled_from(Fault), max_size=12)
_ids = count()


def owner(id: str = "me", *, host: str = "here", boot: str = "boot", pid: int = 7) -> Owner:
    return Owner(host=host, boot=boot, pid=pid, started=90, id=id)


def follow(newest: Manifest | None, epoch: int) -> Manifest:
    id = f"commit-{next(_ids)}"
    if newest is None:
        return first(epoch=epoch, owner=f"driver {epoch}", commit_id=id)
    return after(newest, kind=Kind.FENCE, epoch=epoch, owner=f"driver {epoch}", commit_id=id)


def take_over(store: ObjectStore, me: str) -> Manifest:
    epoch = claim(store, owner(me), now_us=0)
    return fence(store, lambda newest: follow(newest, epoch), epoch=epoch)


# job.json


@given(faults=ANY_FAULTS)
@settings(deadline=None)
def test_the_job_is_the_one_that_is_stored_whatever_the_store_answers(faults: list[Fault]) -> None:
    store = FaultyStore(faults=faults)

    found = job_of(store, JobFile(job="mine", created_us=1), retry=Retry(attempts=len(faults) + 1))

    assert found == decode_job(store.inner.get(JOB_KEY)) == JobFile(job="mine", created_us=1)


def test_a_job_that_is_there_stays() -> None:
    store = MemoryStore()
    job_of(store, JobFile(job="first", created_us=1))

    assert job_of(store, JobFile(job="second", created_us=2)).job == "first"


def test_drivers_that_start_together_agree_on_the_job() -> None:
    store = MemoryStore()

    with ThreadPoolExecutor(20) as pool:
        found = set(pool.map(lambda me: job_of(store, JobFile(job=f"job {me}", created_us=me)), range(20)))

    assert len(found) == 1


def test_manifests_without_a_job_are_refused() -> None:
    store = MemoryStore()
    commit(store, first(), previous=None, epoch=1)

    with pytest.raises(CheckpointError, match=r"job\.json is missing"):
        job_of(store, JobFile(job="new", created_us=1))


# Epochs


def test_epochs_count_from_one_without_gaps() -> None:
    store = MemoryStore()

    assert [claim(store, owner(str(me)), now_us=5) for me in range(3)] == [1, 2, 3]
    assert b'"time_us":5' in store.get(epoch_key(3))
    assert b'"pid":7' in store.get(epoch_key(3))


@given(faults=ANY_FAULTS)
@settings(deadline=None)
def test_a_driver_alone_claims_the_next_epoch_whatever_the_store_answers(faults: list[Fault]) -> None:
    store = FaultyStore(faults=faults)
    claim(store.inner, owner("before"), now_us=0)

    epoch = claim(store, owner(), now_us=0, retry=Retry(attempts=len(faults) + 1))

    assert epoch == 2
    assert store.inner.list("epoch/") == [epoch_key(1), epoch_key(2)]


@given(faults=ANY_FAULTS)
@settings(deadline=None)
def test_a_claim_that_lost_goes_one_further_and_skips_none(faults: list[Fault]) -> None:
    inner = MemoryStore()
    seen: list[str] = []

    def overtake(call: str, key: str) -> None:
        """Another driver claims an epoch at the moment when this one first tries it."""
        if call == "create" and key not in seen and len(seen) < 2:
            seen.append(key)
            inner.create(key, dump(EpochFile(epoch=len(seen), owner=owner("other"), time_us=0)))

    store = FaultyStore(inner, faults, before=overtake)

    epoch = claim(store, owner(), now_us=0, retry=Retry(attempts=len(faults) + 1))

    assert epoch == 3
    assert inner.list("epoch/") == [epoch_key(n) for n in range(1, epoch + 1)]
    assert b'"id":"me"' in inner.get(epoch_key(epoch))


def test_drivers_that_claim_together_get_different_epochs() -> None:
    store = MemoryStore()

    with ThreadPoolExecutor(20) as pool:
        epochs = list(pool.map(lambda me: claim(store, owner(str(me)), now_us=0), range(20)))

    assert sorted(epochs) == list(range(1, 21))


# Fences


def test_the_first_driver_writes_the_start() -> None:
    store = MemoryStore()

    written = take_over(store, "me")

    assert written.kind is Kind.START
    assert head(store) == written


def test_the_second_driver_fences_the_first() -> None:
    store = MemoryStore()
    old = take_over(store, "old")

    new = take_over(store, "new")

    assert (new.kind, new.epoch, new.seq) == (Kind.FENCE, 2, 1)
    with pytest.raises(FencedError):
        commit(store, after(old), previous=old, epoch=1)
    commit(store, after(new), previous=new, epoch=2)


def test_a_fence_that_loses_to_an_older_driver_reads_the_head_again() -> None:
    inner = MemoryStore()
    old = take_over(inner, "old")
    epoch = claim(inner, owner("new"), now_us=0)

    def slip_in(call: str, key: str) -> None:
        """The older driver commits one more batch just before the fence is written."""
        if call == "create" and not inner.list(key) and key.endswith("1.json.zst"):
            with pytest.raises(FencedError):
                commit(inner, after(old), previous=old, epoch=1)

    written = fence(FaultyStore(inner, before=slip_in), lambda newest: follow(newest, epoch), epoch=epoch)

    assert (written.seq, written.batch, written.epoch) == (2, 0, 2)
    assert head(inner) == written


def test_a_fence_that_finds_a_newer_driver_stops() -> None:
    store = MemoryStore()
    late = claim(store, owner("late"), now_us=0)
    newer = take_over(store, "newer")

    with pytest.raises(FencedError, match="epoch 2, driver 2"):
        fence(store, lambda newest: follow(newest, late), epoch=late)

    assert head(store) == newer


def test_a_fence_stops_when_a_newer_driver_has_claimed_but_not_written() -> None:
    store = MemoryStore()
    late = claim(store, owner("late"), now_us=0)
    claim(store, owner("newer"), now_us=0)

    with pytest.raises(FencedError):
        fence(store, lambda newest: follow(newest, late), epoch=late)


@given(faults=ANY_FAULTS, attempts=st.integers(1, 4))
@settings(deadline=None)
def test_a_fence_is_written_again_until_its_outcome_is_known(faults: list[Fault], attempts: int) -> None:
    store = FaultyStore(faults=faults)
    before = take_over(store.inner, "old")
    epoch = claim(store.inner, owner("new"), now_us=0)
    written = None

    while written is None:
        try:
            written = fence(store, lambda newest: follow(newest, epoch), epoch=epoch, retry=Retry(attempts=attempts))
        except StoreError:
            continue

    assert head(store.inner) == written
    assert written.epoch == epoch
    assert written.batch == before.batch


def test_of_many_drivers_that_take_over_together_the_newest_goes_on() -> None:
    store = MemoryStore()
    take_over(store, "before")

    def drive(me: int) -> int:
        """Take over and commit batches until fenced, as a driver does; answers its epoch if it was never fenced."""
        try:
            mine = take_over(store, str(me))
            for _ in range(3):
                following = replace(after(mine), commit_id=f"{me} {mine.seq}")
                commit(store, following, previous=mine, epoch=mine.epoch)
                mine = following
        except FencedError:
            return 0
        return mine.epoch

    with ThreadPoolExecutor(12) as pool:
        survivors = set(pool.map(drive, range(12)))

    newest = head(store)
    assert newest is not None
    assert newest.epoch == 13
    assert 13 in survivors


# Before a takeover


def owned_by(other: Owner | str, **changes: object) -> Manifest:
    return manifest(owner=str(other), **changes)


def nobody(_: Owner) -> bool:
    return False


def everybody(_: Owner) -> bool:
    return True


def test_a_process_of_this_host_that_runs_is_named() -> None:
    decision = may_take_over(owned_by(owner("other", pid=44)), owner(), False, everybody)

    assert isinstance(decision, Refuse)
    assert "process 44 on here" in decision.reason
    assert "takeover=True" in decision.reason


def test_there_is_no_wait_for_who_is_gone_for_certain() -> None:
    assert may_take_over(None, owner(), False, everybody) == Go()
    assert may_take_over(owned_by(owner("other")), owner(), False, nobody) == Go()
    assert may_take_over(owned_by(owner("other"), kind=Kind.STOP), owner(), False, everybody) == Go()
    assert may_take_over(owned_by(owner("other"), finished=True), owner(), False, everybody) == Go()
    assert may_take_over(owned_by(owner("other")), owner(), True, everybody) == Go()


@pytest.mark.parametrize("other", [owner("o", host="there"), owner("o", boot="before"), "somebody"], ids=str)
def test_other_hosts_other_boots_and_unknown_owners_are_watched(other: Owner | str) -> None:
    assert may_take_over(owned_by(other), owner(), False, nobody) == Wait(watch_us=WATCH_US)
    assert may_take_over(owned_by(other), owner(), False, nobody, watch_us=9) == Wait(watch_us=9)


def test_a_head_that_stands_still_is_taken_over_when_the_watch_ends() -> None:
    still = owned_by(owner("other", host="there"))

    assert watch(still, still, watched_us=0) == Wait(watch_us=WATCH_US)
    assert watch(still, still, watched_us=WATCH_US - 1) == Wait(watch_us=1)
    assert watch(still, still, watched_us=WATCH_US) == Go()


def test_a_head_that_moves_is_somebody_at_work() -> None:
    still = owned_by(owner("other", host="there"))

    decision = watch(still, after(still, kind=Kind.CONFIRM), watched_us=3)

    assert isinstance(decision, Refuse)
    assert "process 7 on there" in decision.reason


def test_a_head_that_says_stop_ends_the_watch() -> None:
    still = owned_by(owner("other", host="there"))

    assert watch(still, after(still, kind=Kind.STOP), watched_us=3) == Go()
    assert watch(still, after(still, finished=True), watched_us=3) == Go()


# Copies


def test_a_checkpoint_belongs_where_it_was_written() -> None:
    check_belongs(manifest(url="/data/a"), job=JOB, url="/data/a")


def test_a_copied_checkpoint_is_refused_with_the_ways_out() -> None:
    with pytest.raises(CheckpointError, match="written at /data/a") as raised:
        check_belongs(manifest(url="/data/a"), job=JOB, url="/data/b")

    assert "at the original place" in str(raised.value)
    assert "an empty folder" in str(raised.value)
    check_belongs(manifest(url="/data/a"), job=JOB, url="/data/b", moved=True)


def test_manifests_of_another_job_are_refused_even_when_moved() -> None:
    with pytest.raises(CheckpointError, match="Two checkpoints were mixed"):
        check_belongs(manifest(url="/data/a"), job="other", url="/data/a", moved=True)
