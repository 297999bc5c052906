"""What must hold of the checkpoint at every instant, checked whenever an object comes or goes."""

from __future__ import annotations

from collections.abc import Iterator

from microstream.checkpoint.codec import decode
from microstream.checkpoint.invariants import invariants
from microstream.checkpoint.keys import PINS, data_of, seq_of
from microstream.checkpoint.manifest import Manifest, OutboxLane
from microstream.testing.simulation.store import Bucket

__all__ = ["CheckpointWatch", "objects_of"]


def objects_of(manifest: Manifest) -> Iterator[str]:
    """Every object that `manifest` names."""
    for operator in manifest.operators:
        yield from (run.segment.object for run in operator.runs)
    for sink in manifest.sinks:
        for batch in (*sink.pending, *sink.held):
            for lane in batch.lanes:
                yield from (segment.object for segment in lane.segments)


class CheckpointWatch:
    """Collects `problems` of everything that is done to `bucket`.

    Manifests are contiguous and follow each other by the product's own invariants; whatever a manifest names is there
    when it is written and stays while the manifest is retained, kept or pinned; a batch of a sink has one content.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.problems: list[str] = []
        self.head: Manifest | None = None
        self.commits = 0
        self._bucket = bucket
        self._manifests: dict[int, Manifest] = {}
        self._outputs: dict[tuple[str, int], tuple[OutboxLane, ...]] = {}
        bucket.on_create.append(self._created)
        bucket.on_delete.append(self._deleted)

    def rolled_back(self) -> None:
        """The bucket was restored from an older copy: start again from what it holds."""
        self._outputs.clear()
        self._manifests = {
            seq: decode(data, key) for key, data in self._bucket.objects.items() if (seq := seq_of(key)) is not None
        }
        self.head = self._manifests[max(self._manifests)] if self._manifests else None

    def _created(self, key: str, data: bytes) -> None:
        seq = seq_of(key)
        if seq is None:
            return
        if self.head is not None and seq < self.head.floor:
            return  # a zombie, or a late request, in a place that GC has emptied: its writer stops at the next epoch
        manifest = decode(data, key)
        self.problems += [f"manifest {seq}: {problem}" for problem in invariants(self.head, manifest)]
        missing = sorted({name for name in objects_of(manifest) if name not in self._bucket.objects})
        self.problems += [f"manifest {seq} names {name}, which is not there" for name in missing]
        self._check_outputs(manifest)
        self._manifests[seq] = self.head = manifest
        self.commits += 1

    def _check_outputs(self, manifest: Manifest) -> None:
        for sink in manifest.sinks:
            for batch in sink.pending:
                first = self._outputs.setdefault((sink.name, batch.batch), batch.lanes)
                if first != batch.lanes:
                    self.problems.append(f"sink {sink.name} has two different outputs for batch {batch.batch}")

    def _deleted(self, key: str) -> None:
        if self.head is None:
            return
        seq = seq_of(key)
        if seq is not None:
            manifest = self._manifests.pop(seq, None)
            if manifest is not None and self._is_protected(manifest):
                self.problems.append(f"manifest {seq} was deleted, and the floor is {self.head.floor}")
        elif data_of(key) is not None:
            users = [m.seq for m in self._manifests.values() if self._is_protected(m) and key in objects_of(m)]
            if users:
                self.problems.append(f"{key} was deleted, and manifest {users[0]} names it")

    def _is_protected(self, manifest: Manifest) -> bool:
        assert self.head is not None
        kept = {kept.seq for kept in self.head.kept}
        pinned = (data for key, data in self._bucket.objects.items() if key.startswith(PINS))
        return (
            manifest.seq >= self.head.floor
            or manifest.seq in kept
            or any(manifest.commit_id.encode() in data for data in pinned)
        )
