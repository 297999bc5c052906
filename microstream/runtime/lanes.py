"""The worker side of the Dask engine: one `LaneWorker` per job on each worker, fed by tasks, fetched from by others."""

from __future__ import annotations

import asyncio
import pickle
import uuid
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import distributed.worker
import pyarrow as pa
from distributed import Scheduler, Worker, WorkerPlugin, get_worker
from distributed.comm import CommClosedError
from distributed.core import Status, send_recv
from distributed.protocol import to_serialize
from distributed.threadpoolexecutor import ThreadPoolExecutor

from microstream.checkpoint.open import open_store
from microstream.checkpoint.store import StoreError
from microstream.errors import MicrostreamError, UserFunctionError, packed
from microstream.observe.logs import logs_of_environment
from microstream.runtime.engine import ExchangeLostError, Fetch, Job, Receipt, Task
from microstream.runtime.stage_threads import ClosingError, StageThreads
from microstream.runtime.task import PublishTask, StageTask
from microstream.runtime.worker import LaneWorker

__all__ = ["CALL", "LanePlugin", "Raised", "is_ready", "plugin_name", "plugins_of", "run_task"]

HANDLER = "microstream_fetch"
CALL = "microstream_call"
PUBLISH_THREADS = 16

CURRENT_WORKER: ContextVar[Worker] | None = getattr(distributed.worker, "_worker_cvar", None)
"""What `distributed.get_worker()` answers; Dask sets it for tasks only, and functions of users may ask in calls too."""

PAUSED_S = 0.05
FETCH_S = 60.0
"""A worker that hangs without closing its connection must not take its consumers with it."""

CONNECT_S = 5.0
"""Dask tries for 30 s to connect, refused or not: a worker's only thread would wait that long for one that died."""


def plugin_name(job: str, epoch: int) -> str:
    """Name of the job's plugin on a worker."""
    return f"microstream-{job}-{epoch}"


def plugins_of(job: str, dask_scheduler: Scheduler) -> list[str]:
    """Names of the plugins that drivers of `job` registered, and did not live to take away."""
    return [name for name in dask_scheduler.worker_plugins if name.startswith(f"microstream-{job}-")]


class LanePlugin(WorkerPlugin):  # type: ignore[misc]
    """Carries the job to every worker, those that join later included."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.lanes: LaneWorker | None = None
        self.publishers: ThreadPoolExecutor | None = None
        self.stages: StageThreads[Receipt | Raised] | None = None

    def setup(self, worker: Worker) -> None:
        """Open the checkpoint and answer fetches."""
        logs_of_environment()
        store = open_store(self.job.checkpoint, dict(self.job.storage_options))
        lanes = self.lanes = LaneWorker(
            job=self.job,
            store=store,
            address=worker.address,
            exchange=WorkerExchange(worker),
            new_id=lambda: uuid.uuid4().hex,
        )
        run = partial(_run_as_in_a_task, worker, lanes)
        self.publishers = ThreadPoolExecutor(PUBLISH_THREADS, thread_name_prefix="publish")
        self.stages = StageThreads(worker.state.nthreads, run)
        worker.handlers[HANDLER] = _Fetches(worker).answer
        worker.handlers[CALL] = _Calls(worker).answer

    def teardown(self, worker: Worker) -> None:
        """Close consumers and producers."""
        if self.publishers is not None:
            self.publishers.shutdown(wait=False)
        if self.stages is not None:
            self.stages.close()
        if self.lanes is not None:
            self.lanes.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"job": self.job, "lanes": None, "publishers": None, "stages": None}


class _Fetches:
    """The handler of other workers' fetches; finds the job's lanes by its plugin."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def answer(self, wanted: bytes) -> dict[str, Any]:
        """Tables, or why there are none."""
        fetches: list[Fetch] = pickle.loads(wanted)
        try:
            tables = _lanes_of(self._worker, fetches[0].job, fetches[0].epoch).serve(fetches)
        except ExchangeLostError as problem:
            return {"lost": str(problem), "tables": []}
        return {"lost": "", "tables": [to_serialize(table) for table in tables]}


class _Calls:
    """The handler of tasks that are called, not scheduled: publications always, stages of small batches.

    A publication waits for a broker, mostly. As a Dask task it would hold a thread of the worker, often the only one,
    while the next batch wants to be read: batches then follow each other half as fast.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def answer(self, task: bytes) -> dict[str, bytes]:
        """`done`: the receipt, or the error that is the result, pickled; or `raised`: an OSError, pickled.

        Raised, that would look like a connection to this worker that broke, as ClosingError is meant to.
        """
        wanted: Task = pickle.loads(task)
        try:
            done = await (self._stage(wanted) if isinstance(wanted, StageTask) else self._publication(wanted))
        except ClosingError:
            raise
        except OSError as error:
            return {"raised": pickle.dumps(error)}
        return {"done": pickle.dumps(done)}

    async def _stage(self, task: StageTask) -> Receipt | Raised:
        while self._worker.status is Status.paused:
            # Short of memory: as for Dask's tasks, nothing new is started.
            await asyncio.sleep(PAUSED_S)
        stages = _plugin_of(self._worker, task.attempt.job, task.attempt.epoch).stages
        assert stages is not None
        return await asyncio.wrap_future(stages.submit(task))

    async def _publication(self, task: PublishTask) -> Receipt | Raised:
        publishers = _plugin_of(self._worker, task.job, task.epoch).publishers
        lanes = _lanes_of(self._worker, task.job, task.epoch)
        loop = asyncio.get_running_loop()
        try:
            running = loop.run_in_executor(publishers, _run_as_in_a_task, self._worker, lanes, task)
        except RuntimeError as closed:
            raise ClosingError from closed
        return await running


class WorkerExchange:
    """Fetches over the worker's own comms; on the same worker it is a reference."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def fetch(self, address: str, wanted: Sequence[Fetch]) -> list[pa.Table]:
        """One table per element of `wanted`; called from a task's thread."""
        if address == self._worker.address:
            return _lanes_of(self._worker, wanted[0].job, wanted[0].epoch).serve(wanted)
        call = self._call(address, pickle.dumps(list(wanted)))
        try:
            answer = asyncio.run_coroutine_threadsafe(call, self._worker.loop.asyncio_loop).result(FETCH_S)
        except (OSError, CommClosedError, TimeoutError) as problem:
            raise ExchangeLostError(f"worker {address} does not answer: {problem}") from problem
        if answer["lost"]:
            raise ExchangeLostError(answer["lost"])
        return list(answer["tables"])

    async def _call(self, address: str, wanted: bytes) -> dict[str, Any]:
        connections = self._worker.rpc
        comm = await connections.connect(address, timeout=CONNECT_S)
        try:
            answer: dict[str, Any] = await send_recv(comm, op=HANDLER, wanted=wanted)
        finally:
            connections.reuse(address, comm)
        return answer


def _plugin_of(worker: Worker, job: str, epoch: int) -> LanePlugin:
    plugin: LanePlugin | None = worker.plugins.get(plugin_name(job, epoch))
    if plugin is None or plugin.lanes is None:
        raise ExchangeLostError(f"worker {worker.address} does not have job {job} epoch {epoch} (any more)")
    return plugin


def _lanes_of(worker: Worker, job: str, epoch: int) -> LaneWorker:
    lanes = _plugin_of(worker, job, epoch).lanes
    assert lanes is not None
    return lanes


@dataclass(frozen=True, slots=True)
class Raised:
    """An error of ours as the result of a task; see `errors.packed` for why it is not simply raised."""

    error: bytes


def run_task(task: StageTask) -> Receipt | Raised:
    """Body of every Dask task of microstream."""
    return _run(_lanes_of(get_worker(), task.attempt.job, task.attempt.epoch), task)


def _run(lanes: LaneWorker, task: Task) -> Receipt | Raised:
    try:
        return lanes.run(task)
    except MicrostreamError as error:
        return Raised(packed(error))
    except SystemExit as left:
        # It would end the worker, and the next one, and so on.
        return Raised(packed(UserFunctionError(f"a function called sys.exit({left.code!r}): let it raise an error.")))


def _run_as_in_a_task(worker: Worker, lanes: LaneWorker, task: Task) -> Receipt | Raised:
    """Functions of users may call `distributed.get_worker()`."""
    if CURRENT_WORKER is not None:
        CURRENT_WORKER.set(worker)
    return _run(lanes, task)


def is_ready(job: str, epoch: int, dask_worker: Worker) -> int | str | None:
    """Threads of this worker if it has the job; None if it has it not yet; text why it cannot read the checkpoint."""
    plugin = dask_worker.plugins.get(plugin_name(job, epoch))
    if plugin is None or plugin.lanes is None:
        return None
    try:
        problem = plugin.lanes.check_checkpoint()
    except StoreError:
        return None
    return problem or int(dask_worker.state.nthreads)
