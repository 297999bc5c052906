"""Savepoints: manifests that garbage collection must leave, each under a name that a person chose."""

from __future__ import annotations

from dataclasses import dataclass

from microstream.checkpoint.codec import decode_record
from microstream.checkpoint.commit import head
from microstream.checkpoint.keys import PINS, pin_key, pin_of
from microstream.checkpoint.manifest import FORMAT_VERSION, Manifest
from microstream.checkpoint.records import dump
from microstream.checkpoint.retry import PATIENT, Retry
from microstream.checkpoint.store import NotFoundError, ObjectStore, StoreError
from microstream.errors import CheckpointError

__all__ = ["Pin", "pin", "pins", "unpin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """What pins/{name} says. `id` is random: who made it can tell it from another's after a lost reply."""

    seq: int
    commit_id: str
    id: str
    format: int = FORMAT_VERSION


def pin(store: ObjectStore, name: str, manifest: Manifest, *, id: str, retry: Retry = PATIENT) -> None:
    """Keep `manifest` and all it lists until `unpin(name)`. Safe beside a running query and its garbage
    collection.

    Raises
    ------
    CheckpointError
        The name is taken, or garbage collection was faster: then nothing is pinned.
    PlanError
        `name` cannot be the name of an object.
    StoreError
        The store did not answer; a pin may have been left, and `unpin` removes it.
    """
    mine = Pin(seq=manifest.seq, commit_id=manifest.commit_id, id=id)
    holder = _create(store, name, mine, retry)
    if holder.id != id:
        raise CheckpointError.of(
            f"Checkpoint {store.url}",
            [f"pin {name!r} is taken: it holds manifest {holder.seq}"],
            "Choose another name, or unpin that one first.",
        )
    # The pin is there before the head is read. GC commits its floor before it lists pins. So either GC sees
    # this pin, or the floor is seen here.
    newest = retry(f"{store.url}: reading the newest manifest", lambda: head(store))
    if newest is None or not _retained(newest, mine):
        unpin(store, name, retry=retry)
        oldest = "nothing" if newest is None else f"{newest.floor} and newer"
        raise CheckpointError.of(
            f"Checkpoint {store.url}",
            [f"manifest {manifest.seq} is no longer retained (retained: {oldest})"],
            "Pin a newer batch.",
        )


def unpin(store: ObjectStore, name: str, *, retry: Retry = PATIENT) -> None:
    """Let garbage collection have what `name` kept; no error if there is no such pin."""
    retry(f"{store.url}: removing pin {name}", lambda: store.delete([pin_key(name)]))


def pins(store: ObjectStore) -> tuple[tuple[str, Pin], ...]:
    """(name, pin), sorted by name. Raises CheckpointError for a pin that cannot be read."""
    found = []
    for key in store.list(PINS):
        name = pin_of(key)
        if name is None:
            continue
        try:
            found.append((name, decode_record(Pin, store.get(key), f"{store.url}/{key}")))
        except NotFoundError:
            continue  # Removed since it was listed.
    return tuple(found)


def _create(store: ObjectStore, name: str, mine: Pin, retry: Retry) -> Pin:
    key = pin_key(name)

    def create_or_read() -> Pin:
        try:
            store.create(key, dump(mine))
        except StoreError as refused:
            try:
                return decode_record(Pin, store.get(key), f"{store.url}/{key}")
            except NotFoundError:
                raise refused from None
        return mine

    return retry(f"{store.url}: writing pin {name}", create_or_read)


def _retained(newest: Manifest, wanted: Pin) -> bool:
    kept = {(k.seq, k.commit_id) for k in newest.kept}
    return newest.floor <= wanted.seq <= newest.seq or (wanted.seq, wanted.commit_id) in kept
