"""The head of the checkpoint: the one place of the driver that writes manifests, one after the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from microstream.checkpoint.commit import commit
from microstream.checkpoint.gc import Summary, collect, objects_of, plan_floor, retained
from microstream.checkpoint.manifest import Kept, Kind, Manifest
from microstream.checkpoint.store import StoreError
from microstream.errors import CheckpointError
from microstream.runtime.patience import patiently
from microstream.runtime.ports import Ports
from microstream.settings import Settings

__all__ = ["Head"]

log = logging.getLogger("microstream.driver")


class Head:
    """The newest manifest, and the commit of the next.

    Attributes
    ----------
    manifest
        The newest manifest.
    base_id
        Commit that last changed state, by which workers tag what they cache: what the next batch starts from. The
        state of `manifest` equals it.
    written_us
        When the newest manifest was written.
    """

    def __init__(self, manifest: Manifest, ports: Ports, settings: Settings, announce: Callable[[str], None]) -> None:
        self.manifest = manifest
        self.base_id = manifest.commit_id
        self.written_us = ports.clock.now_us()
        self._ports = ports
        self._settings = settings
        self._announce = announce
        self._turn = asyncio.Lock()
        self._known: dict[int, Summary] = {}
        self._collected = manifest.seq
        self._collecting = False

    async def commit(self, build: Callable[[Manifest], Manifest]) -> Manifest:
        """Make `build(newest manifest)` durable; on return no newer epoch existed after it was.

        Raises
        ------
        FencedError
            Another driver owns the checkpoint.
        StoreError
            The store did not answer for `store_wait`; the manifest may or may not be there.
        """
        async with self._turn:
            before = self.manifest
            following = await self._with_floor(build(before))
            await patiently(
                lambda: self._ports.offload(
                    commit, self._ports.store, following, previous=before, epoch=following.epoch
                ),
                away=StoreError,
                bound_us=self._settings.store_wait_us,
                clock=self._ports.clock,
                jitter_s=self._ports.jitter_s,
                announce=self._announce,
            )
            self.manifest = following
            self.written_us = self._ports.clock.now_us()
            kept = Kept(seq=following.seq, commit_id=following.commit_id, time_us=following.written_us)
            self._known[following.seq] = Summary(kept=kept, objects=objects_of(following))
            if following.kind is Kind.BATCH:
                self.base_id = following.commit_id
            return following

    async def note(self, kind: Kind, change: Callable[[Manifest], Manifest]) -> Manifest:
        """Commit a manifest of another kind than `batch`: the same state, with `change` applied."""
        return await self.commit(
            lambda head: replace(
                change(head),
                seq=head.seq + 1,
                parent=head.commit_id,
                commit_id=self._ports.new_id(),
                written_us=self._ports.clock.now_us(),
                kind=kind,
            )
        )

    async def _with_floor(self, manifest: Manifest) -> Manifest:
        """`manifest`, which now and then moves the floor below which manifests may be collected."""
        if manifest.seq - self._collected < self._settings.gc_every:
            return manifest
        try:
            seen = await self._ports.offload(retained, self._ports.store, self.manifest, self._known)
        except (StoreError, CheckpointError) as problem:
            log.warning("%s: the floor stays where it is: %s", self._ports.store.url, problem)
            return manifest
        moved = plan_floor(
            self.manifest,
            seen,
            newest=self._settings.manifests,
            retain_us=self._settings.retain_us,
            now_us=manifest.written_us,
        )
        return replace(manifest, floor=moved.floor, kept=moved.kept)

    def is_collection_due(self) -> bool:
        """Whether enough manifests were written since the last collection."""
        return self.manifest.seq - self._collected >= self._settings.gc_every

    async def collect(self) -> None:
        """Delete what no retained, kept or pinned manifest names. To fail is harmless: garbage stays."""
        if self._collecting:
            return
        self._collecting, self._collected = True, self.manifest.seq
        head = self.manifest
        try:
            await self._ports.offload(collect, self._ports.store, head, epoch=head.epoch, known=self._known)
        except (StoreError, CheckpointError) as problem:
            log.warning("%s: garbage was not collected, trying again later: %s", self._ports.store.url, problem)
        finally:
            self._collecting = False
