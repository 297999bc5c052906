"""Garbage collection without a clock: what no retained, kept or pinned manifest names, and nobody still
writes.

The order makes it safe beside pins and takeovers: commit a manifest with the new floor (the caller's), list
pins, look for a newer driver, delete data, delete manifests. A crash in between leaves garbage for the next
time, never a manifest without its data that anybody may open.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, MutableMapping, Sequence
from dataclasses import dataclass

from microstream.checkpoint.commit import check_not_fenced, read_manifest
from microstream.checkpoint.keys import DATA, MANIFESTS, DataKey, data_of, manifest_key, seq_of
from microstream.checkpoint.manifest import Kept, Manifest
from microstream.checkpoint.pins import Pin, pins
from microstream.checkpoint.retry import PATIENT, Retry
from microstream.checkpoint.store import NotFoundError, ObjectStore
from microstream.errors import CheckpointError

__all__ = ["Collected", "Floor", "Summary", "collect", "objects_of", "plan_floor", "retained"]

HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The oldest manifest that stays, and the older ones that stay as well: fields of the next manifest."""

    floor: int
    kept: tuple[Kept, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What collection must know of a manifest that never changes: keep it from one collection to the next."""

    kept: Kept
    objects: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What one collection removed."""

    data: int
    manifests: int


def plan_floor(head: Manifest, seen: Iterable[Kept], *, newest: int, retain_us: int, now_us: int) -> Floor:
    """Where the floor of the manifest after `head` should be.

    Parameters
    ----------
    seen
        Manifests from `head.floor` to `head.seq`, in any order; `retained` reads them.
    newest
        How many manifests stay, the coming one included; at least 1.
    retain_us
        For how long the first manifest of each hour stays, by the time recorded in it.
    now_us
        Time recorded in the coming manifest.
    """
    floor = max(head.floor, head.seq + 2 - newest)
    hourly: dict[int, Kept] = {}
    for one in sorted((*head.kept, *seen), key=lambda kept: kept.seq):
        if one.seq < floor and one.time_us > now_us - retain_us:
            hourly.setdefault(one.time_us // HOUR_US, one)
    return Floor(floor=floor, kept=tuple(sorted(hourly.values(), key=lambda kept: kept.seq)))


def retained(
    store: ObjectStore, head: Manifest, known: MutableMapping[int, Summary], *, retry: Retry = PATIENT
) -> tuple[Kept, ...]:
    """Manifests from `head.floor` to `head.seq`. Reads those that `known` lacks, and adds them to it.

    Raises
    ------
    CheckpointError
        One of them is missing or damaged.
    StoreError
        The store did not answer.
    """
    summaries = (_summary(store, seq, known, retry) for seq in range(head.floor, head.seq + 1))
    return tuple(summary.kept for summary in summaries)


def objects_of(manifest: Manifest) -> frozenset[str]:
    """Names of all objects that `manifest` needs."""
    runs = {run.segment.object for operator in manifest.operators for run in operator.runs}
    pending = (batch for sink in manifest.sinks for batch in (*sink.pending, *sink.held))
    return frozenset(runs | {s.object for batch in pending for lane in batch.lanes for s in lane.segments})


def collect(
    store: ObjectStore,
    head: Manifest,
    *,
    epoch: int,
    compacting: Collection[int] = (),
    known: MutableMapping[int, Summary] | None = None,
    retry: Retry = PATIENT,
) -> Collected:
    """Delete what nobody needs any more, now that `head`, which holds the floor, is committed.

    Parameters
    ----------
    head
        The newest manifest of this driver.
    epoch
        The generation of this driver.
    compacting
        Batches at which compactions began that `head` does not name yet.
    known
        Summaries of manifests by seq, filled and trimmed here; pass the same mapping every time.

    Raises
    ------
    FencedError
        A newer driver owns the checkpoint; nothing was deleted.
    CheckpointError
        A retained manifest or a pin cannot be read; nothing was deleted.
    StoreError
        The store did not answer; part may have been deleted. Collect again later.
    """
    known = {} if known is None else known
    pinned = retry(f"{store.url}: listing pins", lambda: pins(store))
    stay = _staying(head, [pin for _, pin in pinned])
    # Data is listed before its references are read: what is written after the listing is not in question.
    data = retry(f"{store.url}: listing data", lambda: store.list(DATA))
    needed = _needed(store, head, stay, known, retry)
    manifests = retry(f"{store.url}: listing manifests", lambda: store.list(MANIFESTS))
    old = [key for key in manifests if (seq := seq_of(key)) is not None and seq < head.floor and seq not in stay]
    unused = [
        key
        for key in data
        if key not in needed and (at := data_of(key)) is not None and _is_over(at, head.batch, epoch, compacting)
    ]
    check_not_fenced(store, epoch, retry=retry)
    retry(f"{store.url}: deleting data", lambda: store.delete(unused))
    retry(f"{store.url}: deleting manifests", lambda: store.delete(old))
    # A copy: the driver may be adding the manifest it has just committed.
    for seq in tuple(known):
        if seq < head.floor and seq not in stay:
            del known[seq]
    return Collected(data=len(unused), manifests=len(old))


def _staying(head: Manifest, pinned: Sequence[Pin]) -> dict[int, str]:
    """seq -> commit_id of manifests that stay although they may be below the floor."""
    return {pin.seq: pin.commit_id for pin in pinned} | {kept.seq: kept.commit_id for kept in head.kept}


def _needed(
    store: ObjectStore,
    head: Manifest,
    stay: dict[int, str],
    known: MutableMapping[int, Summary],
    retry: Retry,
) -> frozenset[str]:
    needed = set(objects_of(head))
    for seq in range(head.floor, head.seq):
        needed |= _summary(store, seq, known, retry).objects
    for seq, commit_id in stay.items():
        try:
            summary = known.get(seq) or _read_summary(store, seq, known, retry)
        except NotFoundError:
            continue  # A pin that came too late and is about to be removed: there is nothing left to protect.
        if summary.kept.commit_id == commit_id:
            needed |= summary.objects
    return frozenset(needed)


def _summary(store: ObjectStore, seq: int, known: MutableMapping[int, Summary], retry: Retry) -> Summary:
    try:
        return known.get(seq) or _read_summary(store, seq, known, retry)
    except NotFoundError:
        raise CheckpointError.of(
            f"Checkpoint {store.url}",
            [f"{manifest_key(seq)} is missing, although it is retained"],
            "Nothing was deleted. Restore it from a backup of the bucket or folder.",
        ) from None


def _read_summary(store: ObjectStore, seq: int, known: MutableMapping[int, Summary], retry: Retry) -> Summary:
    """Raises NotFoundError where the manifest is not there."""

    def read() -> Manifest | None:
        try:
            return read_manifest(store, seq)
        except NotFoundError:
            return None

    manifest = retry(f"{store.url}: reading manifest {seq}", read)
    if manifest is None:
        raise NotFoundError(f"{manifest_key(seq)} is not there")
    kept = Kept(seq=seq, commit_id=manifest.commit_id, time_us=manifest.written_us)
    known[seq] = Summary(kept=kept, objects=objects_of(manifest))
    return known[seq]


def _is_over(at: DataKey, committed: int, epoch: int, compacting: Collection[int]) -> bool:
    """Whether nobody can name this object any more who did not name it before.

    A compaction that began after `head` was committed has the batch of `head`: it waits for the next
    collection.
    """
    if at.epoch != epoch:
        return at.epoch < epoch
    if at.kind == "c":
        return at.batch < committed and at.batch not in compacting
    return at.batch <= committed
