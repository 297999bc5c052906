"""The commit point: one create-if-absent decides, and its loser learns that it must stop.

Steps 2 to 4 of the protocol (docs/explanation/checkpoint-format.md): create the manifest; on any answer but
success read it back, for every client reports "already exists" for its own write after a lost reply; then
look for a newer driver, for a zombie may have created a manifest whose number was garbage-collected long ago.
"""

from __future__ import annotations

from microstream.checkpoint.codec import decode, encode
from microstream.checkpoint.invariants import invariants
from microstream.checkpoint.keys import MANIFESTS, epoch_key, manifest_key, seq_of
from microstream.checkpoint.manifest import Manifest
from microstream.checkpoint.retry import PATIENT, Retry
from microstream.checkpoint.store import NotFoundError, ObjectStore, StoreError
from microstream.errors import FencedError, InternalError

__all__ = ["check_not_fenced", "commit", "head", "place", "read_manifest"]

LISTINGS = 5
"""How often the newest manifest may vanish between being listed and being read."""


def head(store: ObjectStore) -> Manifest | None:
    """The newest manifest, or None where there is none.

    Raises
    ------
    CheckpointError
        It cannot be read.
    StoreError
        The store does not answer.
    """
    for _ in range(LISTINGS):
        seqs = [seq for key in store.list(MANIFESTS) if (seq := seq_of(key)) is not None]
        if not seqs:
            return None
        try:
            return read_manifest(store, max(seqs))
        except NotFoundError:
            # Between list and get, enough manifests were committed for GC to remove this one: there is a
            # newer.
            continue
    raise StoreError(f"{store.url}: the newest manifest vanished {LISTINGS} times while it was read.")


def read_manifest(store: ObjectStore, seq: int) -> Manifest:
    """Manifest `seq`. Raises NotFoundError, CheckpointError, StoreError."""
    key = manifest_key(seq)
    return decode(store.get(key), key, url=store.url)


def commit(
    store: ObjectStore, manifest: Manifest, *, previous: Manifest | None, epoch: int, retry: Retry = PATIENT
) -> None:
    """Make `manifest` the checkpoint after `previous`. Only when this returns may anything outside be
    touched.

    After a StoreError the outcome is unknown: call again with the same manifest, or stop.

    Parameters
    ----------
    epoch
        The generation of this driver.
    retry
        How often each step is tried.

    Raises
    ------
    FencedError
        Another driver owns the checkpoint. Nothing may be published any more.
    StoreError
        The store did not answer.
    InternalError
        `manifest` breaks an invariant; nothing was written.
    """
    found = place(store, manifest, previous=previous, epoch=epoch, retry=retry)
    if found.commit_id != manifest.commit_id:
        raise FencedError(
            f"{store.url}: manifest {manifest.seq} was written by another driver (epoch {found.epoch}, "
            f"{found.owner}) "
            f"before this one (epoch {epoch}). This driver stops; the other one goes on.",
            seq=manifest.seq,
            epoch=found.epoch,
            owner=found.owner,
        )
    check_not_fenced(store, epoch, retry=retry)


def place(
    store: ObjectStore, manifest: Manifest, *, previous: Manifest | None, epoch: int, retry: Retry = PATIENT
) -> Manifest:
    """Create `manifest` unless its place is taken; answers the manifest that stands there then, this or
    another.

    Raises
    ------
    StoreError, InternalError
        As `commit`.
    """
    _check(manifest, previous, epoch)
    key, data = manifest_key(manifest.seq), encode(manifest)

    def create_or_read() -> Manifest:
        try:
            store.create(key, data)
        except StoreError as refused:
            try:
                return read_manifest(store, manifest.seq)
            except NotFoundError:
                raise refused from None
        return manifest

    return retry(f"{store.url}: writing manifest {manifest.seq}", create_or_read)


def check_not_fenced(store: ObjectStore, epoch: int, *, retry: Retry = PATIENT) -> None:
    """Raise FencedError if a driver newer than `epoch` has claimed the checkpoint, StoreError if the store
    cannot tell.

    No epoch is ever skipped or deleted, so the next one is there if any newer one is.
    """
    if retry(f"{store.url}: looking for a newer driver", lambda: _is_there(store, epoch_key(epoch + 1))):
        raise FencedError(
            f"{store.url}: another driver took the checkpoint over (epoch {epoch + 1}; this one has "
            f"{epoch}). "
            "This driver stops and publishes nothing more.",
            epoch=epoch + 1,
        )


def _is_there(store: ObjectStore, key: str) -> bool:
    try:
        store.get(key)
    except NotFoundError:
        return False
    return True


def _check(manifest: Manifest, previous: Manifest | None, epoch: int) -> None:
    broken = list(invariants(previous, manifest))
    if manifest.epoch != epoch:
        broken.append(f"the driver of epoch {epoch} wrote epoch {manifest.epoch} into it")
    if broken:
        raise InternalError(
            f"Manifest {manifest.seq} ({manifest.kind}, batch {manifest.batch}) was not written: "
            f"{'; '.join(broken)}. "
            "The checkpoint is unchanged.",
            seq=manifest.seq,
            problems=tuple(broken),
        )
