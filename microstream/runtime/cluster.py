"""Dask as the executor: tasks pinned to workers, receipts gathered, losses learned from the scheduler's events.

Only this module, `lanes` (the worker side) and `preload` import distributed. Nothing that matters lives only in Dask.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import distributed
from dask._task_spec import Task as DaskTask
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from distributed import Client, LocalCluster
from distributed.core import clean_exception

from microstream.errors import ConnectorError, PlanError, UnreachableError, unpacked
from microstream.runtime.engine import EngineEvent, EngineLost, Job, Receipt, Task, TaskDone, TaskFailed
from microstream.runtime.lanes import CALL, LanePlugin, Raised, plugin_name, plugins_of, run_task
from microstream.runtime.local import local_cluster
from microstream.runtime.roster import Roster
from microstream.runtime.task import PublishTask, StageTask, task_key
from microstream.runtime.tuning import is_prepared

__all__ = ["DaskEngine", "scheduler_of"]

log = logging.getLogger("microstream.cluster")

CLOSE_S = 15.0


def scheduler_of(client: Any) -> tuple[str, int, Any]:
    """Address and security of the scheduler of a client (or the address itself), and the threads of its workers."""
    if isinstance(client, str):
        try:
            with Client(client, set_as_default=False) as probe:
                return client, sum(probe.nthreads().values()), None
        except (OSError, ValueError) as problem:
            raise ConnectorError(f"no Dask scheduler answers at {client}: {problem}") from problem
    if not isinstance(client, Client):
        raise PlanError(f"client={client!r:.60}: give a distributed.Client or the address of a scheduler.")
    return client.scheduler.address, sum(client.nthreads().values()), client.security


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
    calls
        Whether stages are called on workers, as publications are, instead of being tasks of Dask's scheduler.
    """

    def __init__(self, address: str | None, workers: int, security: Any = None, *, calls: bool = False) -> None:
        self._address, self._workers, self._security, self._calls = address, workers, security, calls
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None
        self._roster: Roster | None = None
        self._job: Job
        self._notify: Callable[[EngineEvent], None]
        self._futures: dict[str, Any] = {}
        self._called: dict[str, asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[None]] = set()

    async def start(self, job: Job, notify: Callable[[EngineEvent], None]) -> None:
        """Connect, check versions, ship the job, and report the workers there are."""
        self._job, self._notify = job, notify
        if self._address is None:
            self._cluster = await local_cluster(self._workers)
        target = self._cluster if self._cluster is not None else self._address
        # Workers of a cluster of the user's may be out of reach from here: then the scheduler hands receipts on.
        direct = True if self._cluster is not None else None
        try:
            client = self._client = await Client(
                target, asynchronous=True, set_as_default=False, security=self._security, direct_to_workers=direct
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

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._reap)
        return task

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._notify(EngineLost(reason=f"{type(error).__name__}: {error}"))

    def memory_fraction(self) -> float:
        """As of the last look at the workers."""
        return self._roster.memory_fraction if self._roster is not None else 0.0

    def submit(self, tasks: Sequence[tuple[str, Task]]) -> None:
        """Start tasks."""
        scheduled = [(address, task) for address, task in tasks if isinstance(task, StageTask) and not self._calls]
        if scheduled:
            self._schedule(scheduled)
        for address, task in tasks:
            if isinstance(task, PublishTask) or self._calls:
                self._called[task_key(task)] = self._spawn(self._call(self._connected(), address, task))

    def _schedule(self, tasks: Sequence[tuple[str, StageTask]]) -> None:
        """The tasks of a stage as one graph, because the cost is per graph, not per task."""
        client, keys = self._connected(), {task_key(task): (address, task) for address, task in tasks}
        graph = {key: DaskTask(key, run_task, task) for key, (_, task) in keys.items()}
        homes = {key: [address] for key, (address, _) in keys.items()}
        layer = MaterializedLayer(graph, annotations={"workers": homes.__getitem__})
        futures = client.get(
            HighLevelGraph({"lanes": layer}, {"lanes": set()}),
            list(keys),
            sync=False,
            asynchronous=True,
            # What is nearer to the sink goes first: reading the next batch must not hold up the one before.
            priority=max(task.level for _, task in tasks),
        )
        for future in futures:
            self._futures[future.key] = future
            self._spawn(self._await(client, future, keys[future.key][1]))

    def _connected(self) -> Client:
        assert self._client is not None
        return self._client

    async def _await(self, client: Client, future: Any, task: StageTask) -> None:
        event: EngineEvent
        try:
            # Not `gather`, which leaves a task behind, and its traceback in the log, when a future fails.
            event = _event(task, await future.result())
        except asyncio.CancelledError:
            return
        except Exception as error:  # noqa: BLE001 - whatever a task raises is judged by the driver
            event = self._failure(client, task, error)
        if self._futures.pop(future.key, None) is not None:
            self._notify(event)

    async def _call(self, client: Client, address: str, task: Task) -> None:
        event: EngineEvent
        try:
            event = _answered(task, await self._answer(client, address, pickle.dumps(task)))
        except OSError as silence:
            # A worker that is gone is soon known as lost; one whose connection broke is asked again.
            event = self._failure(client, task, UnreachableError(f"worker {address} does not answer: {silence}"))
        except Exception as error:  # noqa: BLE001 - judged by the driver; of a publication, the marker tells the outcome
            event = self._failure(client, task, error)
        if self._called.pop(task_key(task), None) is not None:
            self._notify(event)

    async def _answer(self, client: Client, address: str, task: bytes) -> dict[str, bytes]:
        """What the worker's handler answers; raises what it raised."""
        if self._cluster is not None:
            answer: dict[str, bytes] = await getattr(client.rpc(address), CALL)(task=task)
            return answer
        wanted = {"op": CALL, "task": task}
        answers = await client.scheduler.broadcast(msg=wanted, workers=[address], on_error="return_pickle")
        return _checked(answers[address])

    def _failure(self, client: Client, task: Task, error: Exception) -> EngineEvent:
        if client.status == "running":
            return TaskFailed(task=task, error=error)
        return EngineLost(reason=f"the connection to the Dask scheduler is lost ({error!r})")

    def cancel(self, tasks: Sequence[Task]) -> None:
        """Wait no longer: what is running finishes for nobody, what is not is dropped (a call once a newer comes)."""
        for task in tasks:
            key = task_key(task)
            if (future := self._futures.pop(key, None)) is not None:
                future.release()
            if (call := self._called.pop(key, None)) is not None:
                call.cancel()

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


def _event(task: Task, result: Receipt | Raised) -> EngineEvent:
    if isinstance(result, Raised):
        return TaskFailed(task=task, error=unpacked(result.error))
    return TaskDone(task=task, receipt=result)


def _answered(task: Task, answer: dict[str, bytes]) -> EngineEvent:
    raised = answer.get("raised")
    if raised is not None:
        return TaskFailed(task=task, error=pickle.loads(raised))
    return _event(task, pickle.loads(answer["done"]))


def _checked(answer: Any) -> dict[str, bytes]:
    """What a handler of a worker answered to a broadcast; raises what it raised, or why it was not reached."""
    if isinstance(answer, bytes):
        raise pickle.loads(answer)
    if answer.keys().isdisjoint(("done", "raised")):
        raise clean_exception(**answer)[1] or ConnectorError("a worker failed without saying how")
    checked: dict[str, bytes] = answer
    return checked


async def _quietly(what: str, closing: Awaitable[Any]) -> None:
    """Await a step of closing, for a bounded time; the error that ended the query must not hide behind this one's."""
    try:
        await asyncio.wait_for(closing, CLOSE_S)
    except Exception as problem:  # noqa: BLE001 - closing goes on whatever happens
        log.info("%s: %r while closing", what, problem)
