"""One run: a world, a query, its input, its misfortunes, and the judgement at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from random import Random
from typing import Any

import pyarrow as pa

from microstream.checkpoint.owner import Owner
from microstream.checkpoint.store import StoreError
from microstream.connectors.protocol import MarkerAheadError
from microstream.errors import CheckpointError, FencedError, UnreachableError
from microstream.runtime.driver import Driver
from microstream.runtime.engine import ExchangeLostError
from microstream.runtime.ports import Ports, QuerySpec
from microstream.runtime.task import task_key
from microstream.runtime.trigger import parse_trigger
from microstream.runtime.worker import StateMissingError
from microstream.settings import Settings
from microstream.testing.simulation import oracle
from microstream.testing.simulation.broker import Broker
from microstream.testing.simulation.cluster import ClusterFaults, SimCluster, SimEngine, SimWorker
from microstream.testing.simulation.folder import SimFolder, problems_of_folder
from microstream.testing.simulation.host import LaneHost
from microstream.testing.simulation.kernel import Actor, Faults, Killed, Step, World, WorldClock
from microstream.testing.simulation.loop import Stuck
from microstream.testing.simulation.mishaps import Mishap, flip_a_bit, pin_now_and_then, raise_a_zombie, roll_back
from microstream.testing.simulation.query import CHANGES, INNER, LATE, OUTER, RAW, compile_query, sink_topics
from microstream.testing.simulation.scenario import Scenario, draw
from microstream.testing.simulation.seams import no_garbage_collection, on_this_thread
from microstream.testing.simulation.sink import rows_of
from microstream.testing.simulation.source import Topic
from microstream.testing.simulation.store import Bucket, SimStore, StoreFaults
from microstream.testing.simulation.watch import CheckpointWatch

__all__ = ["Outcome", "Simulation", "simulate", "simulate_many"]

URL = "sim://checkpoint"
AFTERMATH_S = 150.0
"""How long the world goes on after the query has ended: zombies wake, late requests arrive."""
PATIENCE_S = 1_500.0
"""A query must end within this time after the faults stopped."""

PASSING = (FencedError, StoreError, UnreachableError, ExchangeLostError, StateMissingError)
"""Errors with which a driver may end while things go wrong: its supervisor starts another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a seed; without `problems` the promise was kept."""

    seed: int
    problems: tuple[str, ...]
    trace: tuple[Step, ...] = field(repr=False)
    scenario: Scenario
    commits: int
    drivers: int
    virtual_s: float
    refused: bool = False


def simulate(seed: int) -> Outcome:
    """Run `seed`. The same seed gives the same outcome, trace included."""
    with no_garbage_collection():
        return Simulation(seed).outcome()


def simulate_many(seeds: Iterable[int], *, jobs: int = 1) -> Iterator[Outcome]:
    """Outcomes of `seeds`, in their order and without traces; `jobs` processes share the seeds."""
    if jobs == 1:
        yield from map(_without_trace, seeds)
        return
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=logging.disable, initargs=(logging.CRITICAL,)
    ) as pool:
        yield from pool.map(_without_trace, seeds, chunksize=10)


def _without_trace(seed: int) -> Outcome:
    return replace(simulate(seed), trace=())


class Listener:
    """Keeps nothing: what a user would see is not what is tested."""

    def opened(self, job: str) -> None:
        """Ignored."""

    def status(self, text: str) -> None:
        """Ignored."""

    def progress(self, event: Mapping[str, Any]) -> None:
        """Ignored."""

    def rows(self, sink: str, batch: int, table: pa.Table, total: int) -> None:
        """Ignored."""


class Simulation:
    """The world of one seed. `scenario` None: drawn from the seed."""

    def __init__(self, seed: int, scenario: Scenario | None = None) -> None:
        self.scenario = scenario if scenario is not None else draw(Random(f"scenario {seed}"))
        s = self.scenario
        self.world = World(seed, Faults())
        self.store_faults = StoreFaults()
        self.cluster_faults = ClusterFaults()
        self._set_faults()
        self.bucket = Bucket()
        self.watch = CheckpointWatch(self.bucket)
        self.broker = Broker(self.world)
        self.topics = tuple(
            Topic(self.world, self.broker, f"in{number}", count) for number, count in enumerate(s.partitions)
        )
        self.files = Bucket()
        folder = SimFolder(world=self.world, bucket=self.files, faults=self.store_faults)
        self.stages = compile_query(self.world, self.broker, s, self.topics, folder)
        self.cluster = SimCluster(
            self.world,
            workers=s.workers,
            threads=s.threads,
            new_host=self._new_host,
            task_key=task_key,
            faults=self.cluster_faults,
        )
        self.mishap = Mishap()
        self.problems: list[str] = []
        self.drivers: list[Actor] = []
        self.calm = False
        self.over = False

    def _new_host(self, cluster: SimCluster, worker: SimWorker) -> LaneHost:
        return LaneHost(self.world, cluster, worker, self.bucket, self.store_faults)

    def _set_faults(self) -> None:
        s, faults = self.scenario, self.world.faults
        faults.lost_request = faults.lost_reply = faults.late_request = s.fault_rate / 2
        faults.crash, faults.pause = s.crash_rate, s.crash_rate / 4
        self.store_faults.server_error = self.store_faults.conflict = self.store_faults.retried = s.fault_rate
        self.cluster_faults.run_twice = s.run_twice
        if s.mishap == "stragglers":
            self.cluster_faults.delayed = 0.3

    # -- the run -------------------------------------------------------------------------------------------------

    def outcome(self) -> Outcome:
        """Run to the end and judge."""
        limit_s = self.scenario.calm_after_s + PATIENCE_S
        try:
            with on_this_thread():
                self.world.run(self._main(), until_s=limit_s + AFTERMATH_S)
        except Stuck as stuck:
            self.problems.append(f"the query does not end: {stuck}")
        else:
            try:
                self.problems += self._judge()
            except (KeyError, TypeError, ValueError) as broken:
                # Records without a value, text that is no JSON: rows of damaged objects, if nothing checks them.
                self.problems.append(f"the output is no rows: {broken!r}")
        self.problems += self.watch.problems
        self.problems += self.world.loop.complaints
        return Outcome(
            seed=self.world.seed,
            problems=tuple(self.problems),
            trace=tuple(self.world.trace),
            scenario=self.scenario,
            commits=self.watch.commits,
            drivers=len(self.drivers),
            virtual_s=self.world.loop.time(),
            refused=self.mishap.refused,
        )

    async def _main(self) -> None:
        loop = self.world.loop
        feeding = loop.create_task(self._feed())
        calming = loop.create_task(self._calm_down())
        befalling = [loop.create_task(work) for work in self._befall()]
        await asyncio.gather(*(self._supervise(number) for number in range(self.scenario.replicas)))
        await asyncio.gather(feeding, calming, *befalling)
        await asyncio.sleep(AFTERMATH_S)

    def _befall(self) -> list[Coroutine[Any, Any, None]]:
        """What happens to the checkpoint itself in this run."""
        s = self.scenario
        match s.mishap:
            case "roll back":
                return [roll_back(self, self.mishap, sink_topics(s), s.calm_after_s / 2)]
            case "bit flip":
                return [flip_a_bit(self, self.mishap, s.calm_after_s)]
            case "zombie":
                raise_a_zombie(self)
                return []
            case "pins":
                return [pin_now_and_then(self, self._store())]
            case _:
                return []

    def kill_drivers(self) -> None:
        """Kill every driver there is."""
        for driver in self.drivers:
            self.world.kill(driver, "power cut")

    def _store(self) -> SimStore:
        return SimStore(self.world, self.bucket, url=URL, faults=self.store_faults)

    async def _feed(self) -> None:
        """Rows arrive at their time, then the topics end."""
        loop = self.world.loop
        for arrival in self.scenario.arrivals:
            await asyncio.sleep(max(0.0, arrival.at_s - loop.time()))
            self.topics[arrival.topic].produce(arrival.partition, arrival.event)
        for topic in self.topics:
            topic.ended = True

    async def _calm_down(self) -> None:
        """After a while nothing goes wrong any more, so that the query can end."""
        await asyncio.sleep(self.scenario.calm_after_s)
        self.world.faults.stop()
        self.store_faults.stop()
        self.cluster_faults.stop()
        self.calm = True
        self.world.note(None, "calm", "")

    # -- drivers -------------------------------------------------------------------------------------------------

    async def _supervise(self, replica: int) -> None:
        """Keep a driver running until the query has ended, as Kubernetes would."""
        if replica:
            await asyncio.sleep(self.world.random.uniform(0.0, self.scenario.calm_after_s))
        while not self.over:
            if self.mishap.halted:
                await asyncio.sleep(1.0)
                continue
            actor = self.world.actor(f"driver{len(self.drivers)}", skew_us=self.world.random.randint(0, 50_000))
            self.drivers.append(actor)
            running = self.world.spawn(actor, self._drive(actor, replica))
            await asyncio.wait([running])
            self._note_end(actor, running)
            self.world.kill(actor, "ended")
            await asyncio.sleep(self.world.random.uniform(0.05, 5.0))

    def _note_end(self, actor: Actor, running: asyncio.Task[None]) -> None:
        if running.cancelled():
            return
        error = running.exception()
        if error is None:
            head = self.watch.head
            self.over = self.over or (head is not None and head.finished)
        elif self.mishap.explains(error):
            self.over = self.mishap.refused = True
        elif not isinstance(error, (*PASSING, Killed)) and not self._is_refusal(actor, error):
            self.over = True
            self.problems.append(f"{actor.name} ended with {type(error).__name__}: {error}")
        if error is not None:
            self.world.note(actor, "driver ends", f"{type(error).__name__}: {error}")

    def _is_refusal(self, actor: Actor, error: BaseException) -> bool:
        """Another driver lives: a replica that waits for its turn is told so, and a zombie finds newer markers."""
        if isinstance(error, MarkerAheadError):
            return actor is not self.drivers[-1]
        refused = isinstance(error, CheckpointError) and "takeover=True" in str(error)
        return self.scenario.replicas > 1 and refused

    async def _drive(self, actor: Actor, replica: int) -> None:
        s, world = self.scenario, self.world
        ports = Ports(
            store=self._store(),
            engine=SimEngine(self.cluster, actor),
            clock=WorldClock(world, actor),
            offload=world.offload,
            new_id=world.new_id,
            jitter_s=lambda: world.random.uniform(0.0, 0.1),
            owner=self._owner(actor, replica),
            alive_here=self._is_alive,
        )
        query = QuerySpec(
            name="simulated",
            stages=self.stages,
            trigger=parse_trigger(s.trigger),
            settings=Settings(
                gc_every=s.gc_every,
                manifests=s.manifests,
                poll_us=100_000,
                heartbeat_us=10_000_000,
            ),
            lanes=s.lanes,
            default_lanes=s.lanes,
            default_start="earliest",
            takeover=bool(replica) and s.impatient,
            storage_options={},
        )
        await Driver(query, ports, Listener()).run()

    def _owner(self, actor: Actor, replica: int) -> Owner:
        number = self.drivers.index(actor)
        host = "host" if self.scenario.same_host else f"host{replica}"
        return Owner(host=host, boot=host, pid=number + 1, started=number + 1, id=self.world.new_id())

    def _is_alive(self, owner: Owner) -> bool:
        return self.drivers[owner.pid - 1].alive

    # -- judgement -----------------------------------------------------------------------------------------------

    def _judge(self) -> list[str]:
        s = self.scenario
        events = [arrival.event for arrival in s.arrivals]
        inner = rows_of(self.broker, INNER)
        problems = []
        if s.may_be_late:
            if s.late:
                late = rows_of(self.broker, LATE)
                problems += oracle.problems_of_late(events, inner, late, s.window_us, s.every_us)
        else:
            problems += oracle.problems_of_inner(s, events, inner)
            if s.outer_us is not None:
                problems += oracle.problems_of_outer(s, events, rows_of(self.broker, OUTER))
        if s.raw:
            problems += oracle.problems_of_raw(events, rows_of(self.broker, RAW))
        if s.files:
            refused = self.mishap.refused
            problems += problems_of_folder(self.files, inner, rolled=s.files == "rolled", refused=refused)
        if s.changes:
            changes = rows_of(self.broker, CHANGES)
            problems += oracle.problems_of_changes(s, events, changes, ended=not self.mishap.refused)
        if self.mishap.refused:
            # What was refused cannot be complete; but nothing wrong may have come out.
            problems = [problem for problem in problems if not problem.endswith(" is missing")]
            problems += self.mishap.problems(self.broker)
        return problems
