"""The driver: one asyncio loop that performs what the pure decisions say. It never sees a row of the data."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from microstream.checkpoint.counting import CountingStore
from microstream.checkpoint.manifest import Kind, Manifest, SourceState
from microstream.errors import ConnectorError
from microstream.runtime.delivery import Delivery
from microstream.runtime.engine import EngineEvent, EngineLost, Job, TaskDone, TaskFailed, WorkerJoined, WorkerLost
from microstream.runtime.head import Head
from microstream.runtime.opening import check_sinks, open_head
from microstream.runtime.pipeline import Pipeline
from microstream.runtime.planner import Ends, Planner
from microstream.runtime.ports import Listener, Ports, QuerySpec
from microstream.runtime.sources import SourceWatch
from microstream.runtime.task import PublishReceipt, PublishTask

__all__ = ["Driver"]


class Driver:
    """Runs one query until it ends, is stopped, or fails.

    Parameters
    ----------
    query
        What to run.
    ports
        The world to run it in.
    listener
        Told about status, progress and rows for sinks in this process.
    """

    def __init__(self, query: QuerySpec, ports: Ports, listener: Listener) -> None:
        self._store = CountingStore(ports.store)
        self._query, self._listener = query, listener
        self._ports = replace(ports, store=self._store)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._leaving = False
        self._rolling = False
        self._moved = asyncio.Event()
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running: _Running | None = None

    async def run(self) -> None:
        """Run to the end. Raises what ended the query, if it did not end well."""
        watch = SourceWatch(self._query.stages.sources, self._ports, self._query.settings, self._listener.status)
        opening = asyncio.get_running_loop().create_task(self._start(watch))
        try:
            await asyncio.wait({opening, self._over}, return_when=asyncio.FIRST_COMPLETED)
            if opening.done():
                opening.result()
            await self._over
        finally:
            for task in (opening, *self._tasks):
                task.cancel()
            await self._ports.engine.close()
            await watch.close()

    async def _start(self, watch: SourceWatch) -> None:
        query, ports = self._query, self._ports
        manifest = await open_head(query, ports, watch, self._listener.status)
        head = Head(manifest, ports, query.settings, self._listener.status)
        # From here on others must see that this driver lives, however long sinks and cluster let it wait.
        self._spawn(self._beat(head))
        await check_sinks(query, ports, manifest, self._listener.status)
        self._listener.opened(manifest.job)
        delivery = Delivery(
            manifest,
            ports=ports,
            settings=query.settings,
            listener=self._listener,
            settled=self._settle,
            failed=self._end,
            spawn=self._spawn,
        )
        pipeline = Pipeline(
            query,
            ports,
            head,
            delivery,
            listener=self._listener,
            settled=self._settle,
            failed=self._end,
            spawn=self._spawn,
            traffic=self._store.take,
        )
        delivery.where = pipeline.worker_of
        planner = Planner(query, ports, watch, head, pipeline, delivery)
        self._running = _Running(head, delivery, pipeline, planner)
        job = Job(
            id=manifest.job,
            epoch=manifest.epoch,
            query=query.name,
            stages=query.stages,
            checkpoint=ports.store.url,
            storage_options=query.storage_options,
        )
        await ports.engine.start(job, self._on_engine)
        self._listener.status("running")
        delivery.start()
        self._spawn(self._mind_workers(pipeline))
        if manifest.finished:
            self.stop()
        elif not self._stopping:
            self._spawn(self._plan(planner))
        self._settle()

    def stop(self) -> None:
        """Finish the batches in flight, publish them, write the stop manifest, end. Closes no windows."""
        self._stopping = True
        if self._running is None:
            # Whatever it still waits for: nothing was read, so nothing is to be finished.
            self._listener.status("stopped")
            self._end(None)
        else:
            self._running.planner.stop()
        self._settle()

    def end_input(self) -> None:
        """Nothing more is read: the input so far is all there is, and the query ends as finite input does."""
        if self._running is None:
            self.stop()
        else:
            self._running.planner.end_input()

    def has_read_all(self) -> bool:
        """Whether nothing is in flight, and the sources held nothing more when they were asked last."""
        running = self._running
        return running is not None and running.planner.is_exhausted and running.pipeline.is_idle

    async def caught_up(self) -> bool:
        """Wait until all that the sources hold now is committed and published; False if the query ends before."""
        while self._running is None and not self._over.done():
            await self._movement()
        if self._running is None:
            return False
        ends = await self._running.planner.ends()
        while not self._over.done():
            if self._running.planner.has_committed(ends) and self._running.delivery.is_done:
                return True
            await self._movement()
        return False

    @property
    def sources(self) -> tuple[SourceState, ...]:
        """As the newest manifest has them; empty before there is one."""
        return self._running.head.manifest.sources if self._running is not None else ()

    async def standing(self) -> tuple[tuple[SourceState, ...], Ends]:
        """What is committed of every source, and where its partitions end now."""
        ends: Ends = await self._running.planner.ends() if self._running is not None else {}
        return self.sources, ends

    async def _movement(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    def _on_engine(self, event: EngineEvent) -> None:
        if self._running is None or self._over.done():
            return
        try:
            self._react(self._running, event)
        except Exception as error:  # noqa: BLE001 - the engine's loop would only log it, and the query hang
            self._end(error)

    def _react(self, running: _Running, event: EngineEvent) -> None:
        match event:
            case EngineLost(reason=reason):
                self._end(
                    ConnectorError(
                        f"query {self._query.name}: {reason}. Start the query again: it goes on from its checkpoint."
                    )
                )
            case WorkerJoined(address=address, threads=threads):
                running.pipeline.joined(address, threads)
                running.delivery.start()
            case WorkerLost(address=address, reason=reason):
                running.pipeline.lost(address, reason)
                running.delivery.lost_worker(address)
            case TaskDone(receipt=PublishReceipt() as receipt):
                running.delivery.confirmed(receipt)
            case TaskFailed(task=PublishTask() as publish, error=error):
                running.delivery.refused(publish, error)
            case TaskDone() | TaskFailed():
                running.pipeline.returned(event)

    async def _plan(self, planner: Planner) -> None:
        await planner.run()
        self.stop()

    async def _beat(self, head: Head) -> None:
        """A driver that commits nothing for a while still says that it lives; this also confirms publications."""
        rest_us = self._query.settings.heartbeat_us
        while not self._leaving:
            quiet_us = self._ports.clock.now_us() - head.written_us
            if quiet_us >= rest_us:
                await head.note(Kind.CONFIRM, self._with_confirmations)
                if head.is_collection_due():
                    await head.collect()
                quiet_us = 0
            await asyncio.sleep((rest_us - quiet_us) / 1e6)

    async def _mind_workers(self, pipeline: Pipeline) -> None:
        """Say that there is no worker, and give up after `worker_wait`."""
        since_us = self._ports.clock.now_us()
        while True:
            await asyncio.sleep(1.0)
            now_us = self._ports.clock.now_us()
            if pipeline.worker_of(0) is not None:
                since_us = now_us
            elif now_us - since_us >= self._query.settings.worker_wait_us:
                raise ConnectorError(
                    f"query {self._query.name}: the cluster has had no worker for {(now_us - since_us) / 1e6:.0f} s. "
                    "Start workers, or raise the setting worker_wait."
                )
            else:
                self._listener.status("waiting: the cluster has no worker")

    def _with_confirmations(self, manifest: Manifest) -> Manifest:
        if self._running is None:
            return manifest
        return replace(manifest, sinks=self._running.delivery.state.sinks)

    def _settle(self) -> None:
        """Something moved: wake whoever waits, and end if there is nothing left to do."""
        self._moved.set()
        running = self._running
        if running is not None:
            running.planner.wake()
        if running is None or not self._stopping:
            return
        if not running.pipeline.is_idle or self._leaving or self._rolling:
            return
        if running.delivery.holds_rows:
            self._rolling = True
            self._spawn(self._roll(running.head, running.delivery))
        elif running.delivery.is_done:
            self._leaving = True
            self._spawn(self._say_goodbye(running.head))

    async def _roll(self, head: Head, delivery: Delivery) -> None:
        """Publish what sinks hold, however young it is: a query that has stopped leaves nothing waiting."""
        delivery.roll(await head.note(Kind.CONFIRM, delivery.with_roll))
        self._rolling = False
        self._settle()

    async def _say_goodbye(self, head: Head) -> None:
        await head.note(Kind.STOP, self._with_confirmations)
        self._listener.status("stopped")
        self._end(None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        self._moved.set()
        if self._over.done():
            return
        if error is None:
            self._over.set_result(None)
        else:
            self._over.set_exception(error)


class _Running:
    """The parts of a driver that has its checkpoint."""

    def __init__(self, head: Head, delivery: Delivery, pipeline: Pipeline, planner: Planner) -> None:
        self.head, self.delivery, self.pipeline, self.planner = head, delivery, pipeline, planner
