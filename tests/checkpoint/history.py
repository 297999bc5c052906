"""A small query that really stores what its manifests name: to be collected, pinned, fenced and crashed."""

from __future__ import annotations

from itertools import count
from typing import Any

from samples import after, first, operator, run, segment

from microstream.checkpoint.commit import commit, head, read_manifest
from microstream.checkpoint.gc import Collected, Summary, collect, objects_of, plan_floor, retained
from microstream.checkpoint.keys import DataKind, data_key
from microstream.checkpoint.manifest import HASH_SPACE, Kind, Manifest
from microstream.checkpoint.owner import Owner
from microstream.checkpoint.store import ObjectStore
from microstream.checkpoint.takeover import claim, fence

HOUR_US = 3_600_000_000
_ids = count(1)


class Driver:
    """Owns `store` from its making on. State is the runs of the last two batches; one batch takes 20 minutes."""

    def __init__(self, store: ObjectStore) -> None:
        id = f"{next(_ids):08x}"
        self.store = store
        self.owner = Owner(host="h", boot="b", pid=1, started=1, id=id)
        self.epoch = claim(store, self.owner, now_us=0)
        self.known: dict[int, Summary] = {}
        self.head = fence(store, self._begin, epoch=self.epoch)

    def put(self, batch: int, kind: DataKind = "d") -> str:
        """An object of `batch` that nothing names yet."""
        name = data_key(epoch=self.epoch, batch=batch, kind=kind, id=f"{next(_ids):08x}")
        self.store.put(name, b"rows")
        return name

    def batch(self) -> Manifest:
        """Run and commit the next batch."""
        batch = self.head.batch + 1
        new = run(batch, 0, HASH_SPACE, segment=segment(self.put(batch)))
        state = self.head.operators[0]
        return self.write(Kind.BATCH, operators=(operator(runs=(*state.runs[-1:], new)),))

    def write(self, kind: Kind, **changes: Any) -> Manifest:
        following = after(
            self.head, kind=kind, commit_id=f"c{next(_ids)}", written_us=self.head.written_us + HOUR_US // 3, **changes
        )
        commit(self.store, following, previous=self.head, epoch=self.epoch)
        self.head = following
        return following

    def raise_floor(self, newest: int, retain_us: int = 0) -> Manifest:
        """Commit a manifest whose floor leaves `newest` manifests."""
        now_us = self.head.written_us + HOUR_US // 3
        seen = retained(self.store, self.head, self.known)
        floor = plan_floor(self.head, seen, newest=newest, retain_us=retain_us, now_us=now_us)
        return self.write(Kind.GC, floor=floor.floor, kept=floor.kept)

    def collect(self, **options: Any) -> Collected:
        return collect(self.store, self.head, epoch=self.epoch, known=self.known, **options)

    def _begin(self, newest: Manifest | None) -> Manifest:
        mine: dict[str, Any] = {"epoch": self.epoch, "owner": str(self.owner), "commit_id": f"c{next(_ids)}"}
        if newest is None:
            return first(**mine, sinks=(), written_us=0)
        return after(newest, kind=Kind.FENCE, **mine)


def missing(store: ObjectStore, seq: int) -> set[str]:
    """What manifest `seq` names and the store does not have."""
    return set(objects_of(read_manifest(store, seq))) - set(store.list("data/"))


def head_is_whole(store: ObjectStore) -> bool:
    newest = head(store)
    return newest is not None and not missing(store, newest.seq)
