"""Batches under way: performs the instructions of the batch machine on the engine and the checkpoint."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from microstream.checkpoint.counting import Traffic
from microstream.checkpoint.manifest import SourceState
from microstream.checkpoint.store import StoreError
from microstream.errors import BadRecordError, ConnectorError, InternalError
from microstream.observe.progress import progress_event
from microstream.plan.nodes import Source
from microstream.runtime.assembly import (
    Watermarks,
    assemble,
    closed_before,
    ledger_after,
    outbox_of,
    receipt_problems,
    unsealed,
    watermarks_after,
)
from microstream.runtime.batch import (
    Commit,
    CommitDone,
    Discard,
    Event,
    Failed,
    Instruction,
    LevelDone,
    Machine,
    Phase,
    Planned,
    Submit,
    advance,
    may_plan,
)
from microstream.runtime.delivery import Delivery
from microstream.runtime.engine import TaskDone, TaskFailed
from microstream.runtime.flight import AttemptRecord, stage_tasks
from microstream.runtime.head import Head
from microstream.runtime.placement import is_uneven, place
from microstream.runtime.planning import Slice
from microstream.runtime.ports import Listener, Ports, QuerySpec
from microstream.runtime.recovery import Verdict, verdict
from microstream.runtime.task import Attempt, StageReceipt, StageTask

__all__ = ["Pipeline"]

log = logging.getLogger("microstream.driver")


class Pipeline:
    """At most two batches in flight, from slice to commit.

    Parameters
    ----------
    settled
        Called whenever a batch left the pipeline.
    failed
        Called with an error that ends the query.
    spawn
        Starts work on the driver's loop; its failure ends the query.
    traffic
        What the driver asked of the checkpoint since this was called last.
    """

    def __init__(
        self,
        query: QuerySpec,
        ports: Ports,
        head: Head,
        delivery: Delivery,
        *,
        listener: Listener,
        settled: Callable[[], None],
        failed: Callable[[BaseException], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        traffic: Callable[[], Traffic],
    ) -> None:
        self._query, self._ports, self._head, self._delivery = query, ports, head, delivery
        self._listener, self._settled, self._failed, self._spawn = listener, settled, failed, spawn
        self._traffic = traffic
        self._nodes: dict[str, Source] = {node.name: node for node in query.stages.sources}
        self._whole = frozenset(sink.name for sink in query.stages.sinks if sink.is_whole)
        self._machine = Machine(next_batch=head.manifest.batch + 1, top_level=len(query.stages.stages) - 1)
        self._records: dict[tuple[int, int], AttemptRecord] = {}
        self._slices: dict[int, Slice] = {}
        self._threads: dict[str, int] = {}
        self._placed: tuple[str, ...] = ()
        self._deferred: list[Submit] = []
        self._trouble: dict[int, tuple[int, int]] = {}
        """Batch -> (failed attempts that count, time of the first)."""
        self.version = 0
        """Changes whenever a slice that was being planned would be out of date."""
        self._completed: list[tuple[int, float]] = []
        self._began_us: int | None = None
        self.record_bytes: dict[str, float] = {}

    # -- what others ask ----------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether no batch is in flight."""
        return not self._machine.flights

    @property
    def next_batch(self) -> int:
        """The id that the next slice gets."""
        return self._machine.next_batch

    def may_plan(self) -> bool:
        """Whether a slice is wanted now; not while lanes wait to be spread over new workers."""
        if not self._threads or not may_plan(self._machine):
            return False
        return self.is_idle or not is_uneven(self._placed, self._threads)

    def ledger(self) -> tuple[SourceState, ...]:
        """All sources after the newest batch whose metas are in."""
        record = self._newest()
        return record.sources if record is not None else self._head.manifest.sources

    def watermarks(self) -> Watermarks:
        """Watermark of each operator after that batch."""
        record = self._newest()
        if record is not None:
            return record.closing
        return tuple((state.id, state.watermark_us) for state in self._head.manifest.operators)

    def batch_time_us(self) -> int:
        """Batch time of that batch."""
        record = self._newest()
        return record.slice.batch_time_us if record is not None else self._head.manifest.batch_time_us

    def worker_of(self, lane: int) -> str | None:
        """Where a lane runs now."""
        return self._placed[lane % len(self._placed)] if self._placed else None

    def _newest(self) -> AttemptRecord | None:
        flights = [f for f in self._machine.flights if f.phase is not Phase.READING]
        return self._records[flights[-1].batch, flights[-1].number] if flights else None

    # -- what happens -------------------------------------------------------------------------------------------

    def plan(self, slice_: Slice) -> None:
        """Start the next batch."""
        self._slices[slice_.batch] = slice_
        self._apply(Planned(slice_.batch))

    def joined(self, address: str, threads: int) -> None:
        """A worker is there."""
        self._threads[address] = threads
        self._placed = place(self._head.manifest.lanes, self._threads, self._placed)
        self._listener.status("")
        waiting, self._deferred = self._deferred, []
        for submit in waiting:
            self._submit(submit)
        self._settled()

    def lost(self, address: str, reason: str) -> None:
        """A worker is gone: what stood on it is run again elsewhere."""
        if self._threads.pop(address, None) is None:
            return
        log.warning("query %s: worker %s is lost (%s)", self._query.name, address, reason)
        self._placed = place(self._head.manifest.lanes, self._threads, self._placed)
        self.version += 1
        for flight in self._machine.flights:
            record = self._records.get((flight.batch, flight.number))
            safe = flight.phase in (Phase.MERGED, Phase.COMMITTING)
            if record is not None and not safe and address in record.placed:
                if self._trouble.get(flight.batch, (1, 0))[0] == 0:
                    # What did not answer was this worker.
                    del self._trouble[flight.batch]
                self._apply(Failed(flight.batch, flight.number))
                return

    def returned(self, event: TaskDone | TaskFailed) -> None:
        """A stage task returned or raised. Whatever belongs to a discarded attempt is ignored."""
        task = event.task
        assert isinstance(task, StageTask)
        record = self._records.get((task.attempt.batch, task.attempt.number))
        if record is None or record.out.get((task.level, task.lane)) != task:
            return
        if isinstance(event, TaskFailed):
            self._stumble(record, event.error)
            return
        assert isinstance(event.receipt, StageReceipt)
        problems = receipt_problems(task, event.receipt)
        if problems:
            self._stumble(record, InternalError(f"batch {task.attempt.batch}: receipt refused: {'; '.join(problems)}"))
            return
        del record.out[task.level, task.lane]
        record.receipts.append(event.receipt)
        if not record.out:
            self._level_done(record, task.level)

    def _level_done(self, record: AttemptRecord, level: int) -> None:
        attempt = record.attempt
        record.mark(f"level-{level}", self._ports.clock.now_us())
        if level == 0:
            metas = [meta for receipt in record.receipts for meta in receipt.partitions]
            record.sources = ledger_after(record.slice, self._nodes, metas)
            record.closing = watermarks_after(record.late, self._query.stages.operators, record.sources)
            for meta in metas:
                self.record_bytes[meta.source] = meta.bytes / max(1, meta.end - meta.start)
        if level == self._machine.top_level and (missing := unsealed(record.receipts)):
            self._stumble(record, InternalError(f"batch {attempt.batch}: no bundle holds {', '.join(missing)}"))
            return
        self._apply(LevelDone(attempt.batch, attempt.number, level))
        self._settled()

    def _stumble(self, record: AttemptRecord, error: BaseException) -> None:
        """A task of the attempt failed: try again, later, or give up."""
        attempt, now_us = record.attempt, self._ports.clock.now_us()
        settings = self._query.settings
        judged = verdict(error)
        is_first = attempt.batch not in self._trouble
        count, since_us = self._trouble.get(attempt.batch, (0, now_us))
        count += judged is Verdict.AGAIN
        self._trouble[attempt.batch] = (count, since_us)
        patience_us = settings.store_wait_us if isinstance(error, StoreError) else settings.source_wait_us
        over = now_us - since_us >= patience_us if judged is Verdict.WAIT else count >= settings.attempts
        if judged is Verdict.STOP or over:
            where = f"query {self._query.name}, batch {attempt.batch}"
            self._failed(error.at(where) if isinstance(error, BadRecordError | ConnectorError) else error)
            return
        about = {"batch": attempt.batch}
        again = f"Trying again for {patience_us / 1e6:.0f} s." if judged is Verdict.WAIT else "Running it again."
        if is_first or judged is not Verdict.WAIT:  # what is away for minutes fails twice a second
            log.warning("query %s batch %d: %s %s", self._query.name, attempt.batch, error, again, extra=about)
        if judged is Verdict.WAIT:
            self._listener.status(f"waiting: {error}")
        self._forget(record)
        delay_s = 0.5 if judged is Verdict.WAIT else 0.02 * 2**count
        self._spawn(self._fail_later(Failed(attempt.batch, attempt.number), delay_s + self._ports.jitter_s()))

    async def _fail_later(self, event: Failed, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        self._apply(event)

    def _forget(self, record: AttemptRecord) -> None:
        self._ports.engine.cancel(list(record.out.values()))
        record.out.clear()
        self.version += 1

    # -- what is done about it ----------------------------------------------------------------------------------

    def _apply(self, event: Event) -> None:
        self._machine, instructions = advance(self._machine, event)
        for instruction in instructions:
            self._perform(instruction)

    def _perform(self, instruction: Instruction) -> None:
        match instruction:
            case Submit():
                self._submit(instruction)
            case Commit(batch, number):
                self._spawn(self._commit(self._records[batch, number]))
            case Discard(batch, number):
                record = self._records.pop((batch, number), None)
                if record is not None:
                    self._forget(record)

    def _submit(self, submit: Submit) -> None:
        if not any((f.batch, f.number) == (submit.batch, submit.number) for f in self._machine.flights):
            return
        if submit.level == 0:
            if not self._placed:
                self._deferred.append(submit)
                return
            if all(f.batch == submit.batch for f in self._machine.flights):
                self._spread()
            self._records[submit.batch, submit.number] = self._new_record(submit)
        record = self._records[submit.batch, submit.number]
        newest = self._head.manifest
        base_at = (newest.seq, newest.commit_id) if record.attempt.base == self._head.base_id else None
        tasks = stage_tasks(record, self._query.stages, submit.level, base_at)
        record.out = {(task.level, task.lane): task for task in tasks}
        self._ports.engine.submit([(record.placed[task.lane], task) for task in tasks])

    def _spread(self) -> None:
        """Nothing else is in flight: lanes may move to workers that joined."""
        if is_uneven(self._placed, self._threads):
            self._placed = place(self._head.manifest.lanes, self._threads, ())

    def _new_record(self, submit: Submit) -> AttemptRecord:
        slice_ = self._slices[submit.batch]
        older = next((r for (batch, _), r in self._records.items() if batch == submit.batch - 1), None)
        manifest = self._head.manifest
        attempt = Attempt(
            job=manifest.job,
            epoch=manifest.epoch,
            batch=submit.batch,
            number=submit.number,
            commit_id=self._ports.new_id(),
            base=older.attempt.commit_id if older is not None else self._head.base_id,
            batch_time_us=slice_.batch_time_us,
        )
        late = (
            older.closing
            if older is not None
            else tuple((state.id, state.watermark_us) for state in manifest.operators)
        )
        return AttemptRecord(
            attempt=attempt,
            slice=slice_,
            placed=self._placed,
            late=late,
            closed_before=closed_before(manifest, late, self._query.stages.operators),
            began_us=self._ports.clock.now_us(),
        )

    async def _commit(self, record: AttemptRecord) -> None:
        attempt, slice_ = record.attempt, record.slice
        record.mark("merged", self._ports.clock.now_us())
        manifest = await self._head.commit(
            lambda head: assemble(
                head,
                commit_id=attempt.commit_id,
                slice_=slice_,
                sources=record.sources,
                watermarks=record.closing,
                operators=self._query.stages.operators,
                receipts=record.receipts,
                sinks=self._delivery.state.sinks,
                whole=self._whole,
                now_us=self._ports.clock.now_us(),
            )
        )
        now_us = self._ports.clock.now_us()
        record.mark("committed", now_us)
        self._measure(record, now_us)
        self._trouble.pop(attempt.batch, None)
        self._slices.pop(attempt.batch, None)
        self._listener.status("")
        delays_us = {name: node.delay_us for name, node in self._nodes.items()}
        figures = record.figures(now_us, self._began_us, delays_us=delays_us, traffic=self._traffic())
        self._began_us = record.began_us
        self._listener.progress(progress_event(self._query.name, manifest, figures))
        self._apply(CommitDone(attempt.batch, attempt.number))
        self._records.pop((attempt.batch, attempt.number), None)
        outbox = outbox_of(slice_, record.receipts, self._whole)
        self._delivery.accept(attempt.batch, outbox, time_us=manifest.batch_time_us, last=manifest.finished)
        self._settled()
        if self._head.is_collection_due():
            self._spawn(self._head.collect())

    def _measure(self, record: AttemptRecord, now_us: int) -> None:
        """What the batch says about the size of the next."""
        rows = sum(r.end - r.start for r in record.slice.ranges)
        self._completed.append((rows, (now_us - record.began_us) / 1e6))

    def take_completed(self) -> list[tuple[int, float]]:
        """(offsets, seconds) of the batches that were committed since this was asked last."""
        completed, self._completed = self._completed, []
        return completed
