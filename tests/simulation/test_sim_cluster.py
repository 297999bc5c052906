"""The cluster model: tasks come back late, twice or never; keys are shared; losses are told, with a delay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.plan.stages import Stages
from microstream.runtime.engine import (
    EngineEvent,
    ExchangeLostError,
    Fetch,
    Job,
    Receipt,
    Task,
    TaskDone,
    WorkerJoined,
    WorkerLost,
)
from microstream.runtime.task import OutboxRef, PublishReceipt, PublishTask
from microstream.testing.simulation.cluster import ClusterFaults, SimCluster, SimEngine, SimWorker
from microstream.testing.simulation.kernel import World

seeds = st.integers(0, 2**32)
STAGES = Stages(stages=(), sources=(), operators=(), sinks=(), fingerprint="")


class Echo:
    """A worker that needs one step for a task and answers with its own number of runs."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.runs = 0

    def install(self, job: Job) -> None:
        pass

    def run(self, task: Task) -> Receipt:
        assert isinstance(task, PublishTask)
        self._world.call(f"work {task.lane}", lambda: None)
        self.runs += 1
        return PublishReceipt(sink=task.sink, lane=task.lane, batch=task.batch, rows=self.runs, skipped=False)

    def serve(self, wanted: Sequence[Fetch]) -> list[pa.Table]:
        raise ExchangeLostError("nothing here")


def job(epoch: int = 1) -> Job:
    return Job(id="j", epoch=epoch, query="q", stages=STAGES, checkpoint="sim://", storage_options={})


def task(lane: int, *, epoch: int = 1) -> PublishTask:
    return PublishTask(
        job="j",
        epoch=epoch,
        sink="s",
        lane=lane,
        batch=0,
        committed=0,
        try_number=0,
        outbox=OutboxRef(segments=(), chunks=()),
    )


def by_lane(one: Task) -> str:
    assert isinstance(one, PublishTask)
    return f"publish-{one.lane}"


def run_cluster(
    seed: int,
    body: Callable[[SimCluster, SimEngine, list[EngineEvent]], Coroutine[Any, Any, None]],
    **faults: float,
) -> tuple[list[EngineEvent], SimCluster]:
    """Run `body` in a driver with an engine on two workers; all events that the driver got."""
    world = World(seed)
    hosts: list[Echo] = []

    def new_host(_cluster: SimCluster, _worker: SimWorker) -> Echo:
        hosts.append(Echo(world))
        return hosts[-1]

    cluster = SimCluster(
        world, workers=2, threads=1, new_host=new_host, task_key=by_lane, faults=ClusterFaults(**faults)
    )
    events: list[EngineEvent] = []

    async def main() -> None:
        driver = world.actor("driver")
        engine = SimEngine(cluster, driver)

        async def drive() -> None:
            await engine.start(job(), events.append)
            await asyncio.sleep(0.1)
            await body(cluster, engine, events)

        await world.spawn(driver, drive())

    world.run(main())
    return events, cluster


def done(events: Sequence[EngineEvent]) -> list[int]:
    return [e.receipt.lane for e in events if isinstance(e, TaskDone) and isinstance(e.receipt, PublishReceipt)]


@given(seed=seeds)
@settings(deadline=None, max_examples=20)
def test_workers_are_announced_and_every_task_returns(seed: int) -> None:
    async def body(cluster: SimCluster, engine: SimEngine, events: list[EngineEvent]) -> None:
        engine.submit([(f"worker{1 + lane % 2}", task(lane)) for lane in range(6)])
        await asyncio.sleep(60)

    events, _ = run_cluster(seed, body)

    assert [e.address for e in events if isinstance(e, WorkerJoined)] in (
        ["worker1", "worker2"],
        ["worker2", "worker1"],
    )
    assert sorted(done(events)) == list(range(6))


@given(seed=seeds)
@settings(deadline=None, max_examples=20)
def test_a_task_that_runs_twice_may_be_reported_twice_but_its_key_keeps_one_result(seed: int) -> None:
    async def body(cluster: SimCluster, engine: SimEngine, events: list[EngineEvent]) -> None:
        engine.submit([("worker1", task(0))])
        await asyncio.sleep(60)
        engine.submit([("worker1", task(0))])
        await asyncio.sleep(60)

    events, _ = run_cluster(seed, body, run_twice=1.0, delayed=0.0)
    results = [e.receipt.rows for e in events if isinstance(e, TaskDone)]

    assert sorted(results[:2]) == [1, 2]
    assert set(results[2:]) in ({1}, {2})


def test_two_drivers_that_submit_one_key_get_one_result() -> None:
    async def body(cluster: SimCluster, engine: SimEngine, events: list[EngineEvent]) -> None:
        other = SimEngine(cluster, cluster.world.actor("other driver"))
        heard: list[EngineEvent] = []
        await other.start(job(epoch=2), heard.append)
        engine.submit([("worker1", task(0, epoch=1))])
        other.submit([("worker2", task(0, epoch=2))])
        await asyncio.sleep(60)
        assert [e.receipt for e in heard if isinstance(e, TaskDone)] == [
            e.receipt for e in events if isinstance(e, TaskDone)
        ]

    events, _ = run_cluster(0, body)

    assert done(events) == [0]


@given(seed=seeds)
@settings(deadline=None, max_examples=20)
def test_a_killed_worker_is_reported_and_replaced_and_its_tasks_never_return(seed: int) -> None:
    async def body(cluster: SimCluster, engine: SimEngine, events: list[EngineEvent]) -> None:
        victim = cluster.workers["worker1"]
        engine.submit([("worker1", task(0))])
        cluster.world.kill(victim.actor)
        await asyncio.sleep(60)

    events, cluster = run_cluster(seed, body)

    assert [e.address for e in events if isinstance(e, WorkerLost)] == ["worker1"]
    assert sorted(cluster.workers) == ["worker2", "worker3"]
    assert done(events) == []


def test_a_worker_that_stands_still_for_long_counts_as_lost_and_answers_later() -> None:
    async def body(cluster: SimCluster, engine: SimEngine, events: list[EngineEvent]) -> None:
        engine.submit([("worker1", task(0))])
        cluster.world.pause(cluster.workers["worker1"].actor, 30)
        await asyncio.sleep(60)

    events, _ = run_cluster(0, body)
    kinds = [type(e) for e in events if not isinstance(e, WorkerJoined)]

    assert kinds == [WorkerLost, TaskDone]


def test_nothing_reaches_a_dead_driver() -> None:
    async def body(cluster: SimCluster, engine: SimEngine, events: list[EngineEvent]) -> None:
        engine.submit([("worker1", task(0))])
        driver = next(actor for actor in cluster.world.actors if actor.name == "driver")
        cluster.world.loop.call_later(0, cluster.world.kill, driver)
        await asyncio.sleep(60)

    heard: list[EngineEvent] = []

    async def listen(cluster: SimCluster, engine: SimEngine, events: list[EngineEvent]) -> None:
        heard.append(events[-1])
        await body(cluster, engine, events)
        heard.append(events[-1])

    with pytest.raises(asyncio.CancelledError):
        run_cluster(0, listen)

    assert [type(event) for event in heard] == [WorkerJoined]
