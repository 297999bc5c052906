"""Publishing, performed: hands pending batches to workers, tries again, and tells when a sink has everything."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from microstream.checkpoint.commit import check_not_fenced
from microstream.checkpoint.manifest import Manifest, OutboxBatch, OutboxLane
from microstream.connectors.protocol import MarkerAheadError
from microstream.errors import CheckpointError, MicrostreamError
from microstream.runtime.ports import Listener, Ports
from microstream.runtime.publishing import Publishing, backlog, confirm, enqueue, is_roll_due, roll_all, start_due
from microstream.runtime.recovery import Verdict, verdict
from microstream.runtime.task import OutboxRef, PublishReceipt, PublishTask
from microstream.settings import Settings

__all__ = ["Delivery"]

log = logging.getLogger("microstream.driver")

RETRY_S = 0.2


@dataclass(slots=True)
class _Trial:
    """One sink lane being published: the task that is out, where, and since when tries fail."""

    task: PublishTask
    address: str
    failing_since_us: int | None = None


class Delivery:
    """All sinks of one driver.

    Parameters
    ----------
    manifest
        The checkpoint at start; its pending batches are published first.
    settled
        Called whenever a sink confirmed a batch.
    failed
        Called with an error that no further try can mend.
    spawn
        Starts work on the driver's loop; its failure ends the query.

    Attributes
    ----------
    where
        The worker of a lane, None while there is no worker; set by whoever places lanes.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        ports: Ports,
        settings: Settings,
        listener: Listener,
        settled: Callable[[], None],
        failed: Callable[[BaseException], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self.state = Publishing(sinks=manifest.sinks)
        self.where: Callable[[int], str | None] = lambda lane: None
        self._job, self._epoch, self._committed = manifest.job, manifest.epoch, manifest.batch
        self._ports, self._settings, self._listener = ports, settings, listener
        self._settled, self._failed, self._spawn = settled, failed, spawn
        self._trials: dict[tuple[str, int, int], _Trial] = {}
        self._tries = 0

    @property
    def is_done(self) -> bool:
        """Whether every sink confirmed everything."""
        return not any(sink.pending for sink in self.state.sinks)

    def has_room(self, batches: int) -> bool:
        """Whether fewer than `batches` batches, and not too many bytes, wait in every sink."""
        waiting, size = backlog(self.state)
        return waiting < min(batches, self._settings.pending_batches) and size < self._settings.pending_bytes

    def accept(
        self, batch: int, outbox: tuple[tuple[str, OutboxBatch], ...], *, time_us: int = 0, last: bool = False
    ) -> None:
        """`batch` is durable and leaves these rows; `time_us` is its time, `last` whether none follows."""
        self._committed = batch
        self.state = enqueue(self.state, batch, outbox, time_us=time_us, last=last)
        self.start()

    @property
    def holds_rows(self) -> bool:
        """Whether a sink holds rows that no manifest has decided to publish yet."""
        return any(sink.held for sink in self.state.sinks)

    def is_roll_due(self, time_us: int) -> bool:
        """Whether a batch at `time_us` would publish rows that are held."""
        return any(is_roll_due(sink, time_us) for sink in self.state.sinks)

    def with_roll(self, manifest: Manifest) -> Manifest:
        """`manifest` with all that is held made pending."""
        return replace(manifest, sinks=roll_all(self.state, manifest.batch, manifest.batch_time_us).sinks)

    def roll(self, manifest: Manifest) -> None:
        """`manifest`, which `with_roll` made, is durable."""
        self.state = roll_all(self.state, manifest.batch, manifest.batch_time_us)
        self.start()

    def start(self) -> None:
        """Publish whatever is next; does nothing while there is no worker."""
        if self.where(0) is None:
            return
        self.state, due = start_due(self.state)
        for sink, batch in due:
            for lane in batch.lanes:
                self._submit(sink, batch.batch, lane)

    def _submit(self, sink: str, batch: int, lane: OutboxLane) -> None:
        self._tries += 1
        task = PublishTask(
            job=self._job,
            epoch=self._epoch,
            sink=sink,
            lane=lane.lane,
            batch=batch,
            committed=self._committed,
            try_number=self._tries,
            outbox=OutboxRef(segments=lane.segments, chunks=lane.chunks),
        )
        self._send(_Trial(task, ""))

    def _send(self, trial: _Trial) -> None:
        task = trial.task
        self._trials[task.sink, task.batch, task.lane] = trial
        address = self.where(task.lane)
        if address is None:
            self._spawn(self._again_later(trial))
            return
        trial.address = address
        self._ports.engine.submit([(address, task)])

    def confirmed(self, receipt: PublishReceipt) -> None:
        """A lane confirmed its batch."""
        if self._trials.pop((receipt.sink, receipt.batch, receipt.lane), None) is None:
            return
        self._listener.status("")
        if receipt.table is not None:
            self._listener.rows(receipt.sink, receipt.batch, receipt.table, receipt.rows)
        self.state = confirm(self.state, receipt.sink, receipt.batch, receipt.lane)
        self.start()
        self._settled()

    def lost_worker(self, address: str) -> None:
        """Whatever was out on `address` is tried elsewhere: the marker tells whether it had been published."""
        for trial in list(self._trials.values()):
            if trial.address == address:
                self._again(trial)

    def refused(self, task: PublishTask, error: BaseException) -> None:
        """A try failed: the outcome is unknown, another one asks the marker first."""
        trial = self._trials.get((task.sink, task.batch, task.lane))
        if trial is None or trial.task.try_number != task.try_number:
            return
        now_us = self._ports.clock.now_us()
        if trial.failing_since_us is None:
            trial.failing_since_us = now_us
            about = {"sink": task.sink, "lane": task.lane, "batch": task.batch}
            log.warning(
                "sink %s lane %d batch %d: %s Trying again.", task.sink, task.lane, task.batch, error, extra=about
            )
        if isinstance(error, MarkerAheadError):
            self._spawn(self._judge(error))
            return
        over = now_us - trial.failing_since_us >= self._settings.source_wait_us
        if over or (isinstance(error, MicrostreamError) and verdict(error) is Verdict.STOP):
            self._failed(error)
            return
        self._listener.status(f"waiting: sink {task.sink}: {error}")
        self._spawn(self._again_later(trial))

    async def _judge(self, ahead: MarkerAheadError) -> None:
        """The sink is ahead of this driver: because another one took over, or because the store was rolled back."""
        await self._ports.offload(check_not_fenced, self._ports.store, self._epoch)
        raise CheckpointError.of(
            self._ports.store.url,
            [str(ahead), "no other driver has taken this checkpoint over, so it is an older copy"],
            "Nothing more was published. Restore the newest copy of the checkpoint.",
        ) from ahead

    async def _again_later(self, trial: _Trial) -> None:
        await asyncio.sleep(RETRY_S + self._ports.jitter_s())
        self._again(trial)

    def _again(self, trial: _Trial) -> None:
        task = trial.task
        if self._trials.get((task.sink, task.batch, task.lane)) is not trial:
            return
        # Left alone, a task pinned to a worker that is gone would wait there for ever.
        self._ports.engine.cancel([task])
        self._tries += 1
        retried = replace(task, try_number=self._tries, committed=self._committed)
        self._send(_Trial(retried, "", trial.failing_since_us))
