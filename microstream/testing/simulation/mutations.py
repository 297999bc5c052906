"""Deliberate breaks of the protocol, one rule each: a simulation that does not find them proves nothing.

Each mutation replaces one decision of production code while it is in force. `find` looks for a seed that shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any

import pyarrow as pa

from microstream.checkpoint import bundle, commit, gc, takeover
from microstream.checkpoint.codec import encode
from microstream.checkpoint.commit import head
from microstream.checkpoint.keys import manifest_key
from microstream.checkpoint.manifest import Manifest, OutboxBatch
from microstream.checkpoint.store import ObjectStore, StoreError
from microstream.connectors.files.writer import ParquetWriter
from microstream.connectors.kafka.writer import TransactionalWriter
from microstream.connectors.protocol import Confirmed, Outgoing
from microstream.runtime import batch, delivery, opening, pipeline
from microstream.runtime.assembly import assemble, outbox_of
from microstream.runtime.batch import Discard, Instruction, Machine
from microstream.runtime.delivery import Delivery
from microstream.runtime.engine import ExchangeLostError, Fetch, Task
from microstream.runtime.flight import AttemptRecord
from microstream.runtime.pipeline import Pipeline
from microstream.runtime.publishing import Active, Publishing, enqueue
from microstream.runtime.shelf import Shelf
from microstream.runtime.task import Attempt, StageReceipt, StageTask, task_key
from microstream.runtime.worker import LaneWorker
from microstream.testing.simulation import run
from microstream.testing.simulation.run import Outcome, simulate
from microstream.testing.simulation.seams import replaced

__all__ = ["MUTATIONS", "find", "mutated"]

Break = Callable[[], AbstractContextManager[Any]]


def mutated(name: str) -> AbstractContextManager[Any]:
    """Mutation `name` is in force inside."""
    return MUTATIONS[name]()


def find(name: str, seeds: Iterable[int]) -> Outcome | None:
    """The first of `seeds` that fails under mutation `name` and does not without it; None if none does."""
    for seed in seeds:
        with mutated(name):
            outcome = simulate(seed)
        if outcome.problems and not simulate(seed).problems:
            return outcome
    return None


def _all(*breaks: AbstractContextManager[Any]) -> AbstractContextManager[Any]:
    stack = ExitStack()
    for one in breaks:
        stack.enter_context(one)
    return stack


# -- the commit --------------------------------------------------------------------------------------------------


def _place_unread(store: ObjectStore, manifest: Manifest, *, previous: Manifest | None, **_: Any) -> Manifest:
    """Whatever the store answers is taken for success."""
    try:
        store.create(manifest_key(manifest.seq), encode(manifest))
    except StoreError:
        return manifest
    return manifest


def no_read_back() -> AbstractContextManager[Any]:
    """An error of the create is not followed by a look at what is there."""
    return _all(replaced(commit, "place", _place_unread), replaced(takeover, "place", _place_unread))


def no_epoch_check() -> AbstractContextManager[Any]:
    """After the commit nobody looks for a newer driver."""

    def unchecked(*_: Any, **__: Any) -> None:
        """Nothing is asked."""

    return _all(*(replaced(module, "check_not_fenced", unchecked) for module in (commit, takeover, gc, delivery)))


def no_fence() -> AbstractContextManager[Any]:
    """A takeover claims its epoch but writes no manifest."""
    original = takeover.fence

    def unfenced(
        store: ObjectStore, follow: Callable[[Manifest | None], Manifest], *, epoch: int, **kw: Any
    ) -> Manifest:
        before = head(store)
        if before is None:
            return original(store, follow, epoch=epoch, **kw)
        return replace(follow(before), seq=before.seq, parent=before.parent, commit_id=before.commit_id)

    return replaced(opening, "fence", unfenced)


def epoch_skipped() -> AbstractContextManager[Any]:
    """A new driver leaves a number out."""
    original = takeover._next_epoch
    return replaced(takeover, "_next_epoch", lambda *args: original(*args) + 1)


def gc_without_pins() -> AbstractContextManager[Any]:
    """Garbage collection does not ask for pins."""
    return replaced(gc, "pins", lambda _store: ())


def gc_of_batches_in_flight() -> AbstractContextManager[Any]:
    """Bundles that no manifest names are garbage, also those that a batch under way has just written."""
    return replaced(gc, "_is_over", lambda *_: True)


def crc_unchecked() -> AbstractContextManager[Any]:
    """What is read from the store is taken as it is."""

    def parse(_segment: Any, piece: Any) -> pa.Table:
        with pa.ipc.open_stream(piece, options=bundle.READ_OPTIONS) as reader:
            return reader.read_all()

    return replaced(bundle, "_decode", parse)


# -- publication -------------------------------------------------------------------------------------------------


def publish_before_manifest() -> AbstractContextManager[Any]:
    """Rows go out as soon as they are there."""
    committed, accepted = Pipeline._commit, Delivery.accept

    async def eager(self: Pipeline, record: AttemptRecord) -> None:
        accepted(self._delivery, record.attempt.batch, outbox_of(record.slice, record.receipts))
        await committed(self, record)

    def once(self: Delivery, number: int, outbox: tuple[tuple[str, OutboxBatch], ...], **_: Any) -> None:
        """They went out before."""

    return _all(replaced(Pipeline, "_commit", eager), replaced(Delivery, "accept", once))


def marker_before_init() -> AbstractContextManager[Any]:
    """The marker is read while the previous producer may still commit."""
    original = TransactionalWriter._begin

    def hasty(self: TransactionalWriter, outgoing: Outgoing) -> int:
        found = self._read_marker()
        vars(self)["_read_marker"] = lambda: found
        try:
            return original(self, outgoing)
        finally:
            del vars(self)["_read_marker"]

    return replaced(TransactionalWriter, "_begin", hasty)


def no_marker() -> AbstractContextManager[Any]:
    """A pending batch is published again after a restart, whatever the marker says."""
    original = TransactionalWriter._begin

    def blind(self: TransactionalWriter, outgoing: Outgoing) -> int:
        original(self, outgoing)
        return 0

    return replaced(TransactionalWriter, "_begin", blind)


def skipped_counts_as_own() -> AbstractContextManager[Any]:
    """After a batch that the marker let skip, the next one is published without asking."""
    original = TransactionalWriter.publish

    def trusting(self: TransactionalWriter, outgoing: Outgoing) -> Confirmed:
        confirmed = original(self, outgoing)
        self._committed_here = outgoing.batch
        return confirmed

    return replaced(TransactionalWriter, "publish", trusting)


def roll_without_manifest() -> AbstractContextManager[Any]:
    """Held rows become files when the driver thinks that it is time, whatever the manifest says."""

    def impatient(state: Publishing, batch_id: int, outbox: Any, **options: Any) -> Publishing:
        return enqueue(state, batch_id, outbox, **{**options, "last": True})

    return replaced(delivery, "enqueue", impatient)


def files_under_random_names() -> AbstractContextManager[Any]:
    """A roll that is tried again writes its rows into another file."""
    original = ParquetWriter._roll

    def elsewhere(self: ParquetWriter, outgoing: Outgoing) -> Any:
        job, self._job = self._job, self._new_id()
        try:
            return original(self, outgoing)
        finally:
            self._job = job

    return replaced(ParquetWriter, "_roll", elsewhere)


def unconfirmed_predecessor() -> AbstractContextManager[Any]:
    """Batch N + 1 of a sink is published before all lanes confirmed N."""

    def all_due(state: Publishing) -> tuple[Publishing, tuple[tuple[str, OutboxBatch], ...]]:
        under_way = {(active.sink, active.batch) for active in state.active}
        due = tuple((s.name, b) for s in state.sinks for b in s.pending if (s.name, b.batch) not in under_way)
        started = tuple(
            Active(sink=name, batch=b.batch, waiting=frozenset(lane.lane for lane in b.lanes)) for name, b in due
        )
        return replace(state, active=(*state.active, *started)), due

    return replaced(delivery, "start_due", all_due)


# -- batches and tasks -------------------------------------------------------------------------------------------


def state_of_wrong_commit() -> AbstractContextManager[Any]:
    """A worker files the new state also under the commit that it started from."""
    original = LaneWorker._remember

    def confused(self: LaneWorker, operator: str, lane: int, attempt: Attempt, _base: Any, state: Any) -> None:
        original(self, operator, lane, attempt, state, state)

    return replaced(LaneWorker, "_remember", confused)


def key_without_epoch() -> AbstractContextManager[Any]:
    """Two drivers of one job submit the same task keys."""

    def short(task: Task) -> str:
        if isinstance(task, StageTask):
            return task_key(replace(task, attempt=replace(task.attempt, epoch=0)))
        return task_key(replace(task, epoch=0))

    return replaced(run, "task_key", short)


def any_execution() -> AbstractContextManager[Any]:
    """A fetch gets what is there, whichever run of the task made it."""

    def take(self: Shelf, fetch: Fetch) -> Any:
        held = self._held.get((fetch.batch, fetch.attempt, fetch.level, fetch.lane))
        if held is None:
            raise ExchangeLostError("gone")
        return held[1][fetch.operator][fetch.target]

    return replaced(Shelf, "take", take)


def late_by_this_batch() -> AbstractContextManager[Any]:
    """Rows are judged by the watermark that their own batch reached."""
    original = LaneWorker._evaluate

    def strict(self: LaneWorker, task: StageTask, *args: Any) -> Any:
        closing = task.closing or task.late
        return original(self, replace(task, late=closing, closed_before=closing), *args)

    return replaced(LaneWorker, "_evaluate", strict)


def source_tasks_too_early() -> AbstractContextManager[Any]:
    """Batch N + 1 is planned while lanes of N still read."""

    def eager(machine: Machine) -> bool:
        return len(machine.flights) < 2

    return _all(replaced(batch, "may_plan", eager), replaced(pipeline, "may_plan", eager))


def runs_of_aborted_attempts() -> AbstractContextManager[Any]:
    """What an attempt stored before it was given up is committed with the next one."""
    perform = Pipeline._perform
    aborted: dict[tuple[str, int, int], list[StageReceipt]] = {}

    def key(attempt: Attempt) -> tuple[str, int, int]:
        return attempt.job, attempt.epoch, attempt.batch

    def remembering(self: Pipeline, instruction: Instruction) -> None:
        if isinstance(instruction, Discard):
            record = self._records.get((instruction.batch, instruction.number))
            if record is not None:
                stored = {sealed.execution for r in record.receipts for sealed in r.sealed}
                kept = [r for r in record.receipts if r.execution.id in stored]
                aborted.setdefault(key(record.attempt), []).extend(kept)
        perform(self, instruction)

    def generous(*args: Any, receipts: list[StageReceipt], **kw: Any) -> Manifest:
        left = aborted.get(key(receipts[0].attempt), []) if receipts else []
        return assemble(*args, receipts=[*receipts, *left], **kw)

    return _all(replaced(Pipeline, "_perform", remembering), replaced(pipeline, "assemble", generous))


MUTATIONS: dict[str, Break] = {
    make.__name__: make
    for make in (
        no_read_back,
        no_epoch_check,
        no_fence,
        epoch_skipped,
        gc_without_pins,
        gc_of_batches_in_flight,
        crc_unchecked,
        publish_before_manifest,
        marker_before_init,
        no_marker,
        skipped_counts_as_own,
        roll_without_manifest,
        files_under_random_names,
        unconfirmed_predecessor,
        state_of_wrong_commit,
        key_without_epoch,
        any_execution,
        late_by_this_batch,
        source_tasks_too_early,
        runs_of_aborted_attempts,
    )
}
"""All breaks by name."""
