"""Becoming the owner of a checkpoint: claim the next epoch, then write a manifest with it before anything
else.

From then on every older driver loses its next commit or stops when it sees the epoch. Safety rests on nothing
else; `may_take_over` and `watch` only keep two healthy drivers from fencing each other for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from microstream.checkpoint.codec import JobFile, decode_job, decode_record, encode_job
from microstream.checkpoint.commit import check_not_fenced, head, place
from microstream.checkpoint.keys import EPOCHS, JOB, MANIFESTS, epoch_key, epoch_of
from microstream.checkpoint.manifest import FORMAT_VERSION, Kind, Manifest
from microstream.checkpoint.owner import Owner
from microstream.checkpoint.records import dump
from microstream.checkpoint.retry import PATIENT, Retry
from microstream.checkpoint.store import NotFoundError, ObjectStore, StoreError
from microstream.errors import CheckpointError, FencedError, InternalError

__all__ = [
    "WATCH_US",
    "Decision",
    "EpochFile",
    "Go",
    "Refuse",
    "Wait",
    "check_belongs",
    "claim",
    "fence",
    "job_of",
    "may_take_over",
    "watch",
]

STOP_IT = "Stop it first, or pass takeover=True."
WATCH_US = 25_000_000
"""How long to watch the head of a foreign driver, which writes at least every 10 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Go:
    """Nobody else is at work: claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Somebody on another host may be at work: watch the head `watch_us` more, then go unless it moves."""

    watch_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Somebody is at work; `reason` names them and says what to do."""

    reason: str


Decision: TypeAlias = Go | Wait | Refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochFile:
    """What epoch/{e} says: who began that generation, and when."""

    epoch: int
    owner: Owner
    time_us: int
    format: int = FORMAT_VERSION


def may_take_over(
    newest: Manifest | None,
    owner: Owner,
    takeover: bool,
    alive_here: Callable[[Owner], bool],
    *,
    watch_us: int = WATCH_US,
) -> Decision:
    """Whether `owner` may claim the checkpoint whose head is `newest`.

    `alive_here` is asked only about processes of this boot of this host. The same host after a reboot is
    watched like a foreign one: a name and another boot may also be a twin.
    """
    if newest is None or takeover or newest.finished or newest.kind is Kind.STOP:
        return Go()
    before = Owner.parse(newest.owner)
    if before is None or (before.host, before.boot) != (owner.host, owner.boot):
        return Wait(watch_us=watch_us)
    if not alive_here(before):
        return Go()
    return Refuse(reason=f"{before.process} runs a query on checkpoint {newest.url}. {STOP_IT}")


def watch(first: Manifest, newest: Manifest, *, watched_us: int, watch_us: int = WATCH_US) -> Decision:
    """What follows from having seen `first` when the watch began and `newest` after `watched_us`."""
    if newest.finished or newest.kind is Kind.STOP:
        return Go()
    if newest.commit_id != first.commit_id:
        owner = Owner.parse(newest.owner)
        who = owner.process if owner else newest.owner
        return Refuse(
            reason=f"{who} runs a query on checkpoint {newest.url}: it just wrote manifest {newest.seq}. {STOP_IT}"
        )
    return Go() if watched_us >= watch_us else Wait(watch_us=watch_us - watched_us)


def check_belongs(newest: Manifest, *, job: str, url: str, moved: bool = False) -> None:
    """Raise CheckpointError unless `newest`, found at `url` beside job.json of `job`, was written there."""
    if newest.job != job:
        raise CheckpointError.of(
            f"Checkpoint {url}",
            [f"its manifests are of job {newest.job}, its job.json is of job {job}"],
            "Two checkpoints were mixed: restore the folder from a copy, or use an empty one.",
        )
    if newest.url != url and not moved:
        raise CheckpointError.of(
            f"Checkpoint {url}",
            [f"it was written at {newest.url}, so it is a copy or was moved"],
            "Two queries with one identity would publish over each other: start the query at the original place, or "
            "give this one an empty folder.",
        )


def job_of(store: ObjectStore, fresh: JobFile, *, retry: Retry = PATIENT) -> JobFile:
    """The job of this checkpoint: what job.json says, which is `fresh` where there was none. One winner, for
    ever.

    Raises
    ------
    CheckpointError
        job.json is damaged, or missing beside manifests.
    StoreError
        The store did not answer.
    """

    def read_or_create() -> JobFile:
        # Listed first: a manifest that is there now had its job.json before it.
        started = bool(store.list(MANIFESTS))
        try:
            return decode_job(store.get(JOB))
        except NotFoundError:
            if started:
                raise CheckpointError.of(
                    f"Checkpoint {store.url}",
                    ["job.json is missing"],
                    "Restore it from a backup, or fork the checkpoint.",
                ) from None
        store.create(JOB, encode_job(fresh))
        return fresh

    return retry(f"{store.url}: writing job.json", read_or_create)


def claim(store: ObjectStore, owner: Owner, *, now_us: int, retry: Retry = PATIENT) -> int:
    """The new epoch of `owner`: one above the newest. No number is ever skipped, because fencing looks only
    at the next.

    Raises
    ------
    StoreError
        The store did not answer; calling again is safe.
    """
    epoch = retry(f"{store.url}: listing epochs", lambda: _next_epoch(store))
    while True:
        record = EpochFile(epoch=epoch, owner=owner, time_us=now_us)
        if _claim_one(store, record, retry).owner.id == owner.id:
            return epoch
        epoch += 1


def fence(
    store: ObjectStore,
    follow: Callable[[Manifest | None], Manifest],
    *,
    epoch: int,
    retry: Retry = PATIENT,
) -> Manifest:
    """Write the first manifest of `epoch`: the one that `follow` makes of the head, with a new commit_id each
    time.

    An older driver may still win a place or two until it sees `epoch`: then the head is read again, for
    otherwise both would stop.

    Raises
    ------
    FencedError
        A newer driver owns the checkpoint.
    CheckpointError, StoreError, InternalError
        As `head` and `commit`.
    """
    # Each older driver looks for a newer epoch after every commit, so it wins at most once after `epoch`
    # exists.
    for _ in range(epoch + 1):
        before = retry(f"{store.url}: reading the newest manifest", lambda: head(store))
        if before is not None and before.epoch > epoch:
            raise _fenced(store, before, epoch)
        manifest = follow(before)
        found = place(store, manifest, previous=before, epoch=epoch, retry=retry)
        if found.commit_id == manifest.commit_id:
            check_not_fenced(store, epoch, retry=retry)
            return manifest
        if found.epoch >= epoch:
            raise _fenced(store, found, epoch)
    raise InternalError(f"{store.url}: older drivers go on committing although epoch {epoch} is claimed.", epoch=epoch)


def _next_epoch(store: ObjectStore) -> int:
    return 1 + max((epoch for key in store.list(EPOCHS) if (epoch := epoch_of(key)) is not None), default=0)


def _claim_one(store: ObjectStore, record: EpochFile, retry: Retry) -> EpochFile:
    """Who has the epoch of `record` in the end: whatever the store answers, what can be read back counts."""
    key = epoch_key(record.epoch)

    def create_or_read() -> EpochFile:
        try:
            store.create(key, dump(record))
        except StoreError as refused:
            try:
                return decode_record(EpochFile, store.get(key), f"{store.url}/{key}")
            except NotFoundError:
                raise refused from None
        return record

    return retry(f"{store.url}: claiming epoch {record.epoch}", create_or_read)


def _fenced(store: ObjectStore, winner: Manifest, epoch: int) -> FencedError:
    return FencedError(
        f"{store.url}: a newer driver (epoch {winner.epoch}, {winner.owner}) took the checkpoint over from "
        "this one "
        f"(epoch {epoch}). This driver stops.",
        seq=winner.seq,
        epoch=winner.epoch,
        owner=winner.owner,
    )
