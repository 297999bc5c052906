"""The production worker in a simulated process: its store, its exchange and its ids come from the model."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from microstream.runtime.engine import ExchangeLostError, Fetch, Job, Receipt, Task
from microstream.runtime.task import StageTask
from microstream.runtime.worker import LaneWorker
from microstream.testing.simulation.cluster import SimCluster, SimWorker
from microstream.testing.simulation.kernel import Mutex, World
from microstream.testing.simulation.store import Bucket, SimStore, StoreFaults

__all__ = ["LaneHost"]


class LaneHost:
    """One `LaneWorker` per job and epoch, as the Dask plugin keeps them."""

    def __init__(
        self, world: World, cluster: SimCluster, worker: SimWorker, bucket: Bucket, faults: StoreFaults
    ) -> None:
        self._world, self._cluster, self._worker = world, cluster, worker
        self._bucket, self._faults = bucket, faults
        self._lanes: dict[tuple[str, int], LaneWorker] = {}

    def install(self, job: Job) -> None:
        """Make the worker of `job`."""
        self._lanes[job.id, job.epoch] = LaneWorker(
            job=job,
            store=SimStore(self._world, self._bucket, url=job.checkpoint, faults=self._faults),
            address=self._worker.address,
            exchange=_Exchange(self, self._cluster, self._worker.address),
            new_id=self._world.new_id,
            new_turn=lambda: Mutex(self._world),
        )

    def run(self, task: Task) -> Receipt:
        """Run one task."""
        if isinstance(task, StageTask):
            return self._of(task.attempt.job, task.attempt.epoch).run(task)
        return self._of(task.job, task.epoch).run(task)

    def serve(self, wanted: Sequence[Fetch]) -> list[pa.Table]:
        """Exchange elements that lie here."""
        return self._of(wanted[0].job, wanted[0].epoch).serve(wanted)

    def _of(self, job: str, epoch: int) -> LaneWorker:
        lanes = self._lanes.get((job, epoch))
        if lanes is None:
            raise ExchangeLostError(f"{self._worker.address} does not have job {job} epoch {epoch}")
        return lanes


class _Exchange:
    """Fetches from other workers over the model's network; on the same worker it is a reference."""

    def __init__(self, host: LaneHost, cluster: SimCluster, address: str) -> None:
        self._host, self._cluster, self._address = host, cluster, address

    def fetch(self, address: str, wanted: Sequence[Fetch]) -> list[pa.Table]:
        """One table per element."""
        if address == self._address:
            return self._host.serve(wanted)
        return self._cluster.fetch(address, wanted)
