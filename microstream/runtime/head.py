"""The head of the checkpoint: the one place of the driver that writes manifests, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from microstream.checkpoint.commit import commit
from microstream.checkpoint.gc import collect, plan_floor
from microstream.checkpoint.manifest import Kind, Manifest
from microstream.checkpoint.store import StoreError
from microstream.runtime.patience import patiently
from microstream.runtime.ports import Ports
from microstream.settings import Settings

__all__ = ["Head"]


class Head:
    """The newest manifest, and the commit of the next.

    `base_id` and `base_seq` name the newest manifest that changed state: what a batch starts from. It is never
    collected, whatever the floor.
    """

    def __init__(self, manifest: Manifest, ports: Ports, settings: Settings, announce: Callable[[str], None]) -> None:
        self.manifest = manifest
        self.base_id, self.base_seq = manifest.commit_id, manifest.seq
        self.written_us = ports.clock.now_us()
        self._ports = ports
        self._settings = settings
        self._announce = announce
        self._turn = asyncio.Lock()

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
            following = self._with_floor(build(self.manifest))
            before = self.manifest
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
            if following.kind is Kind.BATCH:
                self.base_id, self.base_seq = following.commit_id, following.seq
            return following

    async def note(self, kind: Kind, change: Callable[[Manifest], Manifest]) -> Manifest:
        """Commit a manifest of another kind than `batch`: the same state, with `change` applied."""

        def build(head: Manifest) -> Manifest:
            following = replace(
                change(head),
                seq=head.seq + 1,
                parent=head.commit_id,
                commit_id=self._ports.new_id(),
                written_us=self._ports.clock.now_us(),
                kind=kind,
            )
            return following

        return await self.commit(build)

    def _with_floor(self, manifest: Manifest) -> Manifest:
        if manifest.seq % self._settings.gc_every:
            return manifest
        floor, kept = plan_floor(
            manifest,
            manifests=self._settings.manifests,
            retain_us=self._settings.retain_us,
            oldest_needed=self.base_seq,
        )
        return replace(manifest, floor=floor, kept=kept)

    def is_collection_due(self) -> bool:
        """Whether the newest manifest moved the floor."""
        return self.manifest.seq % self._settings.gc_every == 0 and self.manifest.floor > 0

    async def collect(self) -> None:
        """Delete what no retained, kept or pinned manifest names."""
        await self._ports.offload(collect, self._ports.store, self.manifest)
