"""Dask as the executor: tasks pinned to workers, receipts gathered, losses learned from the scheduler's events.

Only this module, `lanes` (the worker side) and `preload` import distributed. Nothing that matters lives only in Dask.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import dask.config
import distributed
from dask._task_spec import Task as DaskTask
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from distributed import Client, LocalCluster

from microstream.errors import ConnectorError, unpacked
from microstream.runtime.engine import EngineEvent, EngineLost, Job, Task, TaskDone, TaskFailed
from microstream.runtime.lanes import LanePlugin, Raised, plugin_name, plugins_of, run_task
from microstream.runtime.roster import Roster
from microstream.runtime.task import StageTask
from microstream.runtime.tuning import is_prepared, scheduler_prepared

__all__ = ["DaskEngine", "local_cluster", "scheduler_of", "task_key"]

log = logging.getLogger("microstream.cluster")

START_TRIES = 3
KEEP_WORKERS = "1000 days"
CLOSE_S = 15.0
PUBLISH_PRIORITY = 1000


def task_key(task: Task) -> str:
    """The Dask key: unique per try, or two drivers would silently get each other's results.

    The prefix is constant per operation, because the scheduler keeps statistics per prefix for ever.
    """
    if isinstance(task, StageTask):
        a = task.attempt
        return f"stage{task.level}-{a.job[:8]}-{a.epoch}-{a.batch}-{a.number}-{task.lane}"
    return f"publish-{task.job[:8]}-{task.epoch}-{task.batch}-{task.sink}-{task.try_number}-{task.lane}"


def scheduler_of(client: Any) -> tuple[str, int, Any]:
    """Address and security of the scheduler of a client (or the address itself), and the threads of its workers."""
    if isinstance(client, str):
        with Client(client, set_as_default=False) as probe:
            return client, sum(probe.nthreads().values()), None
    return client.scheduler.address, sum(client.nthreads().values()), client.security


def _priority(task: Task) -> int:
    """What is nearer to the sink goes first: reading the next batch must not hold up the one before."""
    return task.level if isinstance(task, StageTask) else PUBLISH_PRIORITY


async def local_cluster(workers: int) -> LocalCluster:
    """Worker processes on this machine, one thread each: the reader's Python loop holds the GIL.

    Settings that a long-running stream of small batches needs are in force for this cluster only.

    Raises
    ------
    ConnectorError
        Worker processes do not start.
    """
    for _ in range(START_TRIES - 1):
        try:
            return await _start_local_cluster(workers)
        except RuntimeError as problem:
            # Nannies replace a worker that dies later; one that dies while it starts fails the whole cluster.
            log.warning("the local Dask cluster did not start (%s), trying again", problem)
    try:
        return await _start_local_cluster(workers)
    except RuntimeError as problem:
        raise ConnectorError(f"the local Dask cluster does not start: {problem}") from problem


class _KeepingCluster(LocalCluster):  # type: ignore[misc]
    """A local cluster that never gives up a worker process.

    Dask gives one up for good if, 15 s after it died, it is just dying again: a few crashes in a row leave no worker.
    Its nanny alone brings it back every time.
    """

    def _update_worker_status(self, op: str, msg: Any) -> None:
        with dask.config.set({"distributed.deploy.lost-worker-timeout": KEEP_WORKERS}):
            super()._update_worker_status(op, msg)


async def _start_local_cluster(workers: int) -> LocalCluster:
    with scheduler_prepared():
        cluster = _KeepingCluster(
            n_workers=workers,
            threads_per_worker=1,
            asynchronous=True,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        )
        try:
            return await cluster
        except BaseException:
            await cluster.close()
            raise


class DaskEngine:
    """An `Engine` on a Dask cluster.

    Parameters
    ----------
    address
        Of a scheduler that the user brings; None: a local cluster of `workers` processes, closed with the engine.
    workers
        Processes of the local cluster.
    security
        `distributed.Security` of the user's cluster.
    """

    def __init__(self, address: str | None, workers: int, security: Any = None) -> None:
        self._address, self._workers, self._security = address, workers, security
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None
        self._roster: Roster | None = None
        self._job: Job
        self._notify: Callable[[EngineEvent], None]
        self._futures: dict[str, Any] = {}
        self._background: set[asyncio.Task[None]] = set()

    async def start(self, job: Job, notify: Callable[[EngineEvent], None]) -> None:
        """Connect, check versions, ship the job, and report the workers there are."""
        self._job, self._notify = job, notify
        if self._address is None:
            self._cluster = await local_cluster(self._workers)
        target = self._cluster if self._cluster is not None else self._address
        try:
            client = self._client = await Client(
                target, asynchronous=True, set_as_default=False, security=self._security
            )
        except OSError as problem:
            raise ConnectorError(f"no Dask scheduler answers at {self._address}: {problem}") from problem
        client.scheduler_comm.interval = 0.001
        await self._check_versions(client)
        for name in await client.run_on_scheduler(plugins_of, job.id):
            # What a driver that was killed left on the workers: its consumers, producers and state.
            await _quietly("old job", client.unregister_worker_plugin(name))
        await client.register_plugin(LanePlugin(job), name=plugin_name(job.id, job.epoch))
        self._roster = Roster(client, job, notify, self._spawn)
        await self._roster.start()

    async def _check_versions(self, client: Client) -> None:
        found = await client.get_versions()
        ours = distributed.__version__
        for where, info in {"scheduler": found["scheduler"], **found["workers"]}.items():
            theirs = (info or {}).get("packages", {}).get("distributed")
            if theirs != ours:
                warnings.warn(
                    f"distributed {theirs} on {where}, {ours} here: use one version everywhere.", stacklevel=2
                )
        if not await client.run_on_scheduler(is_prepared):
            log.warning(
                "this cluster runs without microstream's preload: results are the same, but batches take longer and "
                "the scheduler's memory grows slowly. Start it with --preload microstream.runtime.preload."
            )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._reap)

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._notify(EngineLost(reason=f"{type(error).__name__}: {error}"))

    def memory_fraction(self) -> float:
        """As of the last look at the workers."""
        return self._roster.memory_fraction if self._roster is not None else 0.0

    def submit(self, tasks: Sequence[tuple[str, Task]]) -> None:
        """Start tasks as one graph: the cost is per graph, not per task."""
        assert self._client is not None
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
            self._spawn(self._await(self._client, future, keys[future.key][1]))

    async def _await(self, client: Client, future: Any, task: Task) -> None:
        # Workers of a cluster of the user's may be out of reach from here: then the scheduler hands receipts on.
        direct = True if self._cluster is not None else None
        event: EngineEvent
        try:
            receipt = await client.gather(future, direct=direct)
        except asyncio.CancelledError:
            return
        except Exception as error:  # noqa: BLE001 - whatever a task raises is judged by the driver
            event = TaskFailed(task=task, error=error)
            if client.status != "running":
                event = EngineLost(reason=f"the connection to the Dask scheduler is lost ({error!r})")
        else:
            failed = isinstance(receipt, Raised)
            event = (
                TaskFailed(task=task, error=unpacked(receipt.error)) if failed else TaskDone(task=task, receipt=receipt)
            )
        if self._futures.pop(future.key, None) is not None:
            self._notify(event)

    def cancel(self, tasks: Sequence[Task]) -> None:
        """Release the futures: what is running finishes for nobody."""
        for task in tasks:
            future = self._futures.pop(task_key(task), None)
            if future is not None:
                future.release()

    async def close(self) -> None:
        """Take the job off the workers; end the local cluster. What fails here is only said."""
        for task in self._background:
            task.remove_done_callback(self._reap)
            task.cancel()
        self._futures.clear()
        client, self._client = self._client, None
        if client is not None:
            name = plugin_name(self._job.id, self._job.epoch)
            if client.status == "running" and self._cluster is None:
                await _quietly("job", client.unregister_worker_plugin(name))
            if self._roster is not None:
                self._roster.stop()
            await _quietly("client", client.close())
        if self._cluster is not None:
            await _quietly("local cluster", self._cluster.close())


async def _quietly(what: str, closing: Awaitable[Any]) -> None:
    """Await a step of closing, for a bounded time; the error that ended the query must not hide behind this one's."""
    try:
        await asyncio.wait_for(closing, CLOSE_S)
    except Exception as problem:  # noqa: BLE001 - closing goes on whatever happens
        log.info("%s: %r while closing", what, problem)
