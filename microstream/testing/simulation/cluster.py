"""A model of a Dask cluster: workers that come and go, tasks that are late, lost or run twice, results shared
by key.

One cluster serves all drivers of a run, as one scheduler serves several clients: a task key that was
submitted before gets the first one's result, silently, whoever asks and whatever the arguments are (facts:
Dask as an engine).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from microstream.runtime.engine import (
    EngineEvent,
    ExchangeLostError,
    Fetch,
    Job,
    Receipt,
    Task,
    TaskDone,
    TaskFailed,
    WorkerJoined,
    WorkerLost,
)
from microstream.testing.simulation.kernel import Actor, Killed, Unanswered, World

__all__ = ["ClusterFaults", "Host", "SimCluster", "SimEngine", "SimWorker"]

PAUSED_IS_LOST_S = 5.0
"""A worker that stands still for so long counts as lost, and may still be at work (design 10)."""


class Host(Protocol):
    """What one worker process runs: the production worker, wired to the model."""

    def install(self, job: Job) -> None:
        """Get ready for tasks of `job`."""
        ...

    def run(self, task: Task) -> Receipt:
        """Run one task, on a thread of the worker."""
        ...

    def serve(self, wanted: Sequence[Fetch]) -> list[pa.Table]:
        """Exchange elements that lie here, at once; ExchangeLostError if one does not."""
        ...


@dataclass(slots=True, kw_only=True)
class ClusterFaults:
    """What the cluster does to tasks (probabilities per task)."""

    run_twice: float = 0.0
    """Run again, after or beside the first run; either answer may be the one that is reported."""
    delayed: float = 0.05
    """A result is reported seconds late."""
    replace_workers: bool = True

    def stop(self) -> None:
        """From now on tasks run once."""
        self.run_twice = self.delayed = 0.0


@dataclass(slots=True, eq=False)
class SimWorker:
    """One worker process."""

    address: str
    threads: int
    actor: Actor
    host: Host
    jobs: set[tuple[str, int]] = field(default_factory=set)
    queue: deque[Callable[[], None]] = field(default_factory=deque)
    busy: int = 0
    reported_lost: bool = False


@dataclass(slots=True, eq=False)
class _Entry:
    """What the scheduler knows under one key: the task that was submitted first, its result, and who waits
    for it.
    """

    task: Task
    waiting: list[tuple[SimEngine, Task]]
    result: EngineEvent | None = None


class SimCluster:
    """All workers, and the scheduler between them and the drivers.

    Parameters
    ----------
    world
        Time and choices.
    workers, threads
        How many there are at the start, and threads of each.
    new_host
        Makes what runs on a worker.
    task_key
        The key under which production submits a task.
    """

    def __init__(
        self,
        world: World,
        *,
        workers: int,
        threads: int,
        new_host: Callable[[SimCluster, SimWorker], Host],
        task_key: Callable[[Task], str],
        faults: ClusterFaults | None = None,
    ) -> None:
        self.world = world
        self.faults = faults if faults is not None else ClusterFaults()
        self.task_key = task_key
        self.workers: dict[str, SimWorker] = {}
        self._threads = threads
        self._new_host = new_host
        self._jobs: list[Job] = []
        self._entries: dict[str, _Entry] = {}
        self._engines: list[SimEngine] = []
        self._born = 0
        for _ in range(workers):
            self.add_worker()

    # -- workers -----------------------------------------------------------------------------------

    def add_worker(self) -> SimWorker:
        """Start a worker under a new address and tell all drivers."""
        self._born += 1
        address = f"worker{self._born}"
        actor = self.world.actor(address)
        worker = SimWorker(address, self._threads, actor, host=None)  # type: ignore[arg-type]
        worker.host = self._new_host(self, worker)
        self.workers[address] = worker
        actor.on_death.append(lambda: self._notice_death(worker))
        actor.on_pause.append(lambda seconds: self._notice_pause(worker, seconds))
        for job in self._jobs:
            self._install(worker, job)
        return worker

    def _install(self, worker: SimWorker, job: Job) -> None:
        worker.host.install(job)
        worker.jobs.add((job.id, job.epoch))
        for engine in self._engines:
            if engine.job is job:
                engine.tell(WorkerJoined(address=worker.address, threads=worker.threads))

    def _notice_death(self, worker: SimWorker) -> None:
        delay_s = self.world.random.choice((0.01, 0.5, 4.0)) * self.world.random.random()
        self.world.loop.call_later(delay_s, self.lose, worker, "connection closed", context=self.world.background)

    def kill_workers(self) -> None:
        """Kill all of them at once; others come."""
        for worker in list(self.workers.values()):
            self.world.kill(worker.actor, "power cut")

    def lose(self, worker: SimWorker, reason: str) -> None:
        """Tell all drivers that `worker` is gone (true or not), and start another one."""
        if worker.reported_lost:
            return
        worker.reported_lost = True
        self.workers.pop(worker.address, None)
        self.world.note(worker.actor, "worker lost", reason)
        for engine in self._engines:
            engine.tell(WorkerLost(address=worker.address, reason=reason))
        if self.faults.replace_workers:
            self.world.loop.call_later(
                self.world.random.uniform(0.1, 3.0), self.add_worker, context=self.world.background
            )

    def _notice_pause(self, worker: SimWorker, seconds: float) -> None:
        if seconds > PAUSED_IS_LOST_S:
            self.world.loop.call_later(
                PAUSED_IS_LOST_S, self.lose, worker, "paused for 5 s", context=self.world.background
            )

    def fetch(self, address: str, wanted: Sequence[Fetch]) -> list[pa.Table]:
        """Exchange elements of worker `address`, over the network."""
        source = self.workers.get(address)

        def apply() -> list[pa.Table]:
            if source is None or not source.actor.alive:
                raise ExchangeLostError(f"{address} is gone")
            return source.host.serve(wanted)

        lanes = ",".join(f"{w.level}.{w.lane}>{w.target}" for w in wanted)
        try:
            return self.world.call(f"exchange {address} {lanes}", apply)
        except Unanswered as silence:
            raise ExchangeLostError(str(silence)) from None

    # -- tasks -------------------------------------------------------------------------------------

    def register(self, engine: SimEngine, job: Job) -> None:
        """A driver's client is there: its job is shipped, and it hears of all workers."""
        self._jobs.append(job)
        self._engines.append(engine)
        for worker in list(self.workers.values()):
            self._install(worker, job)

    def unregister(self, engine: SimEngine) -> None:
        """The client is gone, and with it what only it waits for."""
        if engine in self._engines:
            self._engines.remove(engine)
        if engine.job is not None and engine.job in self._jobs:
            self._jobs.remove(engine.job)
        for key in [k for k, entry in self._entries.items() if all(e is engine for e, _ in entry.waiting)]:
            del self._entries[key]

    def submit(self, engine: SimEngine, address: str, task: Task) -> None:
        """Run `task` on `address`, unless something was submitted under its key before."""
        key = self.task_key(task)
        entry = self._entries.get(key)
        if entry is not None:
            entry.waiting.append((engine, task))
            if entry.result is not None:
                self._report(entry, entry.result)
            return
        entry = self._entries[key] = _Entry(task, [(engine, task)])
        self._schedule(address, key, entry)
        if self._happens(self.faults.run_twice):
            delay_s = self.world.random.choice((0.004, 0.03, 0.3)) * self.world.random.random()
            self.world.loop.call_later(delay_s, self._schedule, address, key, entry, context=self.world.background)

    def release(self, engine: SimEngine, task: Task) -> None:
        """`engine` forgets the task; nobody waits any more: the scheduler forgets it as well."""
        key = self.task_key(task)
        entry = self._entries.get(key)
        if entry is not None:
            entry.waiting = [(e, t) for e, t in entry.waiting if e is not engine]
            if not entry.waiting:
                del self._entries[key]

    def _schedule(self, address: str, key: str, entry: _Entry) -> None:
        worker = self.workers.get(address)
        if worker is None:
            return  # pinned to a worker that is gone: pending for ever, and nobody is told
        worker.queue.append(lambda: self._run(worker, key, entry))
        self.world.loop.call_later(
            self.world.random.uniform(0.0, 0.004), self._next, worker, context=self.world.background
        )

    def _next(self, worker: SimWorker) -> None:
        if worker.queue and worker.busy < worker.threads and worker.actor.alive:
            worker.busy += 1
            worker.queue.popleft()()

    def _run(self, worker: SimWorker, key: str, entry: _Entry) -> None:
        future = self.world.start(worker.actor, worker.host.run, entry.task)
        future.add_done_callback(lambda f: self._done(worker, key, entry, f), context=self.world.background)

    def _done(self, worker: SimWorker, key: str, entry: _Entry, future: asyncio.Future[Receipt]) -> None:
        worker.busy -= 1
        self._next(worker)
        if future.cancelled() or not worker.actor.alive:
            return
        error = future.exception()
        result: EngineEvent
        if error is None:
            result = TaskDone(task=entry.task, receipt=future.result())
        else:
            self.world.note(worker.actor, f"task {key}", f"{type(error).__name__}: {error}")
            result = TaskFailed(task=entry.task, error=error)
        delay_s = self.world.random.uniform(0.0, 0.004)
        if self._happens(self.faults.delayed):
            delay_s = self.world.random.choice((0.05, 1.0, 20.0)) * self.world.random.random()
        self.world.loop.call_later(delay_s, self._report, entry, result, context=self.world.background)

    def _report(self, entry: _Entry, result: EngineEvent) -> None:
        entry.result = entry.result or result
        for engine, task in entry.waiting:
            match result:
                case TaskDone(receipt=receipt):
                    engine.tell(TaskDone(task=task, receipt=receipt))
                case TaskFailed(error=error):
                    engine.tell(TaskFailed(task=task, error=error))

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self.world.random.random() < probability


class SimEngine:
    """A driver's client of the cluster (runtime/engine.py: Engine). It dies with the driver."""

    def __init__(self, cluster: SimCluster, actor: Actor) -> None:
        self._cluster = cluster
        self._actor = actor
        self._notify: Callable[[EngineEvent], None] | None = None
        self._context = cluster.world.background
        self.job: Job | None = None

    async def start(self, job: Job, notify: Callable[[EngineEvent], None]) -> None:
        """Ship the job; every worker there is, is announced."""
        self._require_alive()
        self.job, self._notify, self._context = job, notify, copy_context()
        self._actor.on_death.append(self._forget_later)
        await asyncio.sleep(self._cluster.world.random.uniform(0.001, 0.1))
        self._require_alive()
        self._cluster.register(self, job)

    def submit(self, tasks: Sequence[tuple[str, Task]]) -> None:
        """Send tasks to the scheduler."""
        self._require_alive()
        for address, task in tasks:
            self._cluster.submit(self, address, task)

    def cancel(self, tasks: Sequence[Task]) -> None:
        """Release tasks; what runs goes on, and its receipt may still be under way."""
        self._require_alive()
        for task in tasks:
            if self._cluster.world.random.random() < 0.5:
                self._cluster.release(self, task)

    def memory_fraction(self) -> float:
        """Workers always have room."""
        return 0.0

    async def close(self) -> None:
        """Leave the cluster."""
        self._require_alive()
        self._cluster.unregister(self)
        self._notify = None

    def tell(self, event: EngineEvent) -> None:
        """Hand `event` to the driver's loop, a little later."""
        delay_s = self._cluster.world.random.uniform(0.0, 0.004)
        self._cluster.world.loop.call_later(delay_s, self._deliver, event, context=self._context)

    def _deliver(self, event: EngineEvent) -> None:
        if self._notify is not None and self._actor.alive:
            self._notify(event)

    def _forget_later(self) -> None:
        """The scheduler notices a dead client after a while; until then its keys are taken."""
        world = self._cluster.world
        world.loop.call_later(
            world.random.uniform(0.01, 30.0), self._cluster.unregister, self, context=world.background
        )

    def _require_alive(self) -> None:
        if not self._actor.alive:
            raise Killed
