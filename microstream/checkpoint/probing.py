"""Try a store before the first batch depends on it: what it cannot do is found here, all at once."""

from __future__ import annotations

from collections.abc import Callable

from microstream.checkpoint.store import AlreadyExistsError, NotFoundError, ObjectStore, StoreError
from microstream.errors import CheckpointError

__all__ = ["check_store"]

CONTENT = b"microstream probes this store"


def check_store(store: ObjectStore, key: str, *, advice: str) -> None:
    """Create, read back, create again, list and delete `key`, a name that nobody uses.

    Raises
    ------
    CheckpointError
        The store cannot do what commits and garbage collection rest on; `advice` ends the message.
    """
    problems = [*_writing(store, key), *_absence(store, key)]
    if problems:
        raise CheckpointError.of(f"Checkpoint {store.url}", dict.fromkeys(problems), advice)


def _writing(store: ObjectStore, key: str) -> list[str]:
    try:
        store.create(key, CONTENT)
    except StoreError as problem:
        # Nothing else can be learned from a store that takes no object; nothing was left behind either, or it
        # is deleted below together with the check for absence.
        return [f"an object cannot be created ({problem})"]
    return [
        said
        for check in (_reading, _exclusive, _listing)
        if (said := _outcome(lambda check=check: check(store, key))) is not None  # type: ignore[misc]
    ]


def _absence(store: ObjectStore, key: str) -> list[str]:
    """S3 without ListBucket answers 403 for an absent key: "not fenced" would look like "forbidden"."""
    try:
        store.delete([key])
    except StoreError as problem:
        return [f"an object cannot be deleted ({problem})"]
    try:
        store.get(key)
    except NotFoundError:
        return []
    except StoreError as problem:
        return [f"an absent object is not reported as absent ({problem})"]
    return ["a deleted object can still be read"]


def _outcome(check: Callable[[], str | None]) -> str | None:
    try:
        return check()
    except StoreError as problem:
        return str(problem)


def _reading(store: ObjectStore, key: str) -> str | None:
    if store.get(key) != CONTENT:
        return "an object does not come back as it was written"
    if store.get_ranges(key, [(3, 5), (0, 2)]) != [CONTENT[3:8], CONTENT[:2]]:
        return "ranges of an object do not come back as they were written"
    return None


def _exclusive(store: ObjectStore, key: str) -> str | None:
    try:
        store.create(key, b"a second writer")
    except AlreadyExistsError:
        return None
    return "creating an object that exists overwrites it (the store ignores If-None-Match)"


def _listing(store: ObjectStore, key: str) -> str | None:
    return None if store.list(key) == [key] else "an object just created is not listed"
