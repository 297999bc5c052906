"""Dask as the executor: tasks pinned to workers, receipts gathered, losses learned from the scheduler's events.

Only this module, `lanes` (the worker side) and `preload` import distributed. Nothing that matters lives only in Dask.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import dask
import distributed
from dask._task_spec import Task as DaskTask
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from distributed import Client, LocalCluster

from microstream.errors import CheckpointError, ConnectorError, unpacked
from microstream.runtime.engine import EngineEvent, Job, Task, TaskDone, TaskFailed, WorkerJoined, WorkerLost
from microstream.runtime.lanes import LanePlugin, Raised, is_ready, plugin_name, run_task
from microstream.runtime.preload import LOCAL_CONFIG, is_prepared, prepare_scheduler
from microstream.runtime.task import StageTask

__all__ = ["DaskEngine", "local_cluster", "scheduler_of", "task_key"]

log = logging.getLogger("microstream.cluster")

READY_TRIES = 50
PAUSED_LIMIT_S = 5.0
LOOK_S = 1.0
PUBLISH_PRIORITY = 1000


def task_key(task: Task) -> str:
    """The Dask key: unique per try, or two drivers would silently get each other's results.

    The prefix is constant per operation, because the scheduler keeps statistics per prefix for ever.
    """
    if isinstance(task, StageTask):
        a = task.attempt
        return f"stage{task.level}-{a.job[:8]}-{a.epoch}-{a.batch}-{a.number}-{task.lane}"
    return f"publish-{task.job[:8]}-{task.epoch}-{task.batch}-{task.sink}-{task.try_number}-{task.lane}"


def scheduler_of(client: Any) -> tuple[str, int]:
    """Address of the scheduler of a client (or the address itself), and the threads of its workers."""
    if isinstance(client, str):
        with Client(client, set_as_default=False) as probe:
            return client, sum(probe.nthreads().values())
    return client.scheduler.address, sum(client.nthreads().values())


def _priority(task: Task) -> int:
    """What is nearer to the sink goes first: reading the next batch must not hold up the one before."""
    return task.level if isinstance(task, StageTask) else PUBLISH_PRIORITY


async def local_cluster(workers: int) -> LocalCluster:
    """Worker processes on this machine, one thread each: the reader's Python loop holds the GIL.

    Settings that a long-running stream of small batches needs are in force for this cluster only.
    """
    with dask.config.set(LOCAL_CONFIG):
        prepare_scheduler()
        return await LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            asynchronous=True,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        )


class DaskEngine:
    """An `Engine` on a Dask cluster.

    Parameters
    ----------
    address
        Of a scheduler that the user brings; None: a local cluster of `workers` processes, closed with the engine.
    """

    def __init__(self, address: str | None, workers: int) -> None:
        self._address, self._workers = address, workers
        self._cluster: LocalCluster | None = None
        self._client: Client
        self._job: Job
        self._notify: Callable[[EngineEvent], None]
        self._futures: dict[str, Any] = {}
        self._known: set[str] = set()
        self._memory = 0.0
        self._background: set[asyncio.Task[None]] = set()

    async def start(self, job: Job, notify: Callable[[EngineEvent], None]) -> None:
        """Connect, check versions, ship the job, and report the workers there are."""
        self._job, self._notify = job, notify
        if self._address is None:
            self._cluster = await local_cluster(self._workers)
        target = self._cluster if self._cluster is not None else self._address
        try:
            self._client = await Client(target, asynchronous=True, set_as_default=False)
        except OSError as problem:
            raise ConnectorError(f"no Dask scheduler answers at {self._address}: {problem}") from problem
        self._client.scheduler_comm.interval = 0.001
        await self._check_versions()
        await self._client.register_plugin(LanePlugin(job), name=plugin_name(job.id, job.epoch))
        self._client.subscribe_topic("all", self._on_event)
        for address in (await self._client.scheduler.identity(n_workers=-1))["workers"]:
            await self._welcome(address)
        self._spawn(self._look())

    async def _check_versions(self) -> None:
        found = await self._client.get_versions()
        ours = distributed.__version__
        for where, info in {"scheduler": found["scheduler"], **found["workers"]}.items():
            theirs = (info or {}).get("packages", {}).get("distributed")
            if theirs != ours:
                warnings.warn(
                    f"distributed {theirs} on {where}, {ours} here: use one version everywhere.", stacklevel=2
                )
        if not await self._client.run_on_scheduler(is_prepared):
            log.warning(
                "this cluster runs without microstream's preload: results are the same, but batches take longer and "
                "the scheduler's memory grows slowly. Start it with --preload microstream.runtime.preload."
            )

    # -- workers ------------------------------------------------------------------------------------------------

    def _on_event(self, event: tuple[float, Any]) -> None:
        _, message = event
        if not isinstance(message, dict):
            return
        if message.get("action") == "add-worker":
            self._spawn(self._welcome(message["worker"]))
        elif message.get("action") == "remove-worker":
            self._known.discard(message["worker"])
            self._notify(WorkerLost(address=message["worker"], reason="removed by the scheduler"))

    async def _welcome(self, address: str) -> None:
        """Report a worker once it has the job and can read the checkpoint."""
        if address in self._known:
            return
        self._known.add(address)
        for _ in range(READY_TRIES):
            try:
                answer = await self._client.run(is_ready, self._job.id, self._job.epoch, workers=[address])
            except (OSError, ValueError, KeyError):
                break
            match answer.get(address):
                case int(threads):
                    self._notify(WorkerJoined(address=address, threads=threads))
                    return
                case str(problem):
                    raise CheckpointError.of(
                        self._job.checkpoint,
                        [f"worker {address} cannot read it: {problem}"],
                        "A local folder serves only workers of this machine: use a shared folder or an object store.",
                    )
            await asyncio.sleep(0.05)
        self._known.discard(address)

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def memory_fraction(self) -> float:
        """As of the last look at the workers."""
        return self._memory

    async def _look(self) -> None:
        """Look at the workers' memory; one that is paused for some time counts as lost."""
        paused: dict[str, int] = {}
        while True:
            await asyncio.sleep(LOOK_S)
            workers = (await self._client.scheduler.identity(n_workers=-1))["workers"]
            used = [w["metrics"].get("memory", 0) / w["memory_limit"] for w in workers.values() if w["memory_limit"]]
            self._memory = max(used, default=0.0)
            still = {
                a: paused.get(a, 0) + 1 for a, w in workers.items() if w["status"] == "paused" and a in self._known
            }
            for address in [a for a, looks in still.items() if looks * LOOK_S >= PAUSED_LIMIT_S]:
                self._known.discard(address)
                self._notify(WorkerLost(address=address, reason=f"paused for {PAUSED_LIMIT_S:.0f} s"))
            for address in [a for a in paused if a in workers and workers[a]["status"] == "running"]:
                self._spawn(self._welcome(address))
            paused = still

    # -- tasks --------------------------------------------------------------------------------------------------

    def submit(self, tasks: Sequence[tuple[str, Task]]) -> None:
        """Start tasks as one graph: the cost is per graph, not per task."""
        keys = {task_key(task): (address, task) for address, task in tasks}
        graph = {key: DaskTask(key, run_task, task) for key, (_, task) in keys.items()}
        homes = {key: [address] for key, (address, _) in keys.items()}
        layer = MaterializedLayer(graph, annotations={"workers": homes.__getitem__})
        futures = self._client.get(
            HighLevelGraph({"lanes": layer}, {"lanes": set()}),
            list(keys),
            sync=False,
            asynchronous=True,
            priority=max(_priority(task) for _, task in tasks),
        )
        for future in futures:
            self._futures[future.key] = future
            self._spawn(self._await(future, keys[future.key][1]))

    async def _await(self, future: Any, task: Task) -> None:
        try:
            receipt = await self._client.gather(future, direct=True)
        except asyncio.CancelledError:
            return
        except Exception as error:  # noqa: BLE001 - whatever a task raises is judged by the driver
            if self._futures.pop(future.key, None) is not None:
                self._notify(TaskFailed(task=task, error=error))
            return
        if self._futures.pop(future.key, None) is None:
            return
        if isinstance(receipt, Raised):
            self._notify(TaskFailed(task=task, error=unpacked(receipt.error)))
        else:
            self._notify(TaskDone(task=task, receipt=receipt))

    def cancel(self, tasks: Sequence[Task]) -> None:
        """Release the futures: what is running finishes for nobody."""
        for task in tasks:
            future = self._futures.pop(task_key(task), None)
            if future is not None:
                future.release()

    async def close(self) -> None:
        """Take the job off the workers; end the local cluster."""
        for task in self._background:
            task.cancel()
        self._futures.clear()
        if not hasattr(self, "_client"):
            return
        try:
            await self._client.unregister_worker_plugin(plugin_name(self._job.id, self._job.epoch))
        except (OSError, ValueError) as problem:
            log.info("the job could not be taken off the cluster: %s", problem)
        with suppress(ValueError):  # It failed to start before it subscribed.
            self._client.unsubscribe_topic("all")
        await self._client.close()
        if self._cluster is not None:
            await self._cluster.close()
