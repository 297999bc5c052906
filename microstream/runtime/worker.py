"""What a worker does with a task: read, evaluate, keep state, store, publish. Synchronous; knows no Dask.

Everything it remembers is a cache: state by commit id, exchange tables of two batches, open consumers and producers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import pyarrow as pa

from microstream.checkpoint.bundle import read_segments
from microstream.checkpoint.codec import decode
from microstream.checkpoint.counting import CountingStore
from microstream.checkpoint.invariants import MAX_RUNS
from microstream.checkpoint.keys import JOB, manifest_key
from microstream.checkpoint.manifest import HASH_SPACE, Segment
from microstream.checkpoint.store import NotFoundError, ObjectStore
from microstream.connectors.protocol import Outgoing, Reader, SinkConnector, Writer
from microstream.errors import UserFunctionError
from microstream.observe.logs import note, working_on
from microstream.operators.failure import UserFunctionFailed
from microstream.operators.order import Places
from microstream.operators.rows import Rows
from microstream.operators.stateless import Instances, instantiate
from microstream.plan.stages import Operator
from microstream.runtime.connecting import connector_of
from microstream.runtime.dead_letters import bad_rows
from microstream.runtime.engine import Exchange, Fetch, Job, Receipt, Task
from microstream.runtime.evaluate import Leaving, evaluate
from microstream.runtime.event_times import timed_metas
from microstream.runtime.incoming import Incoming, read_sources
from microstream.runtime.lane_state import LaneState, LaneStep, advance, closed_rows, emitted, loaded, run_part
from microstream.runtime.outgoing import joined
from microstream.runtime.places import numbered, places_of_reads, places_of_results
from microstream.runtime.sealer import Part, Sealer
from microstream.runtime.shelf import Shelf
from microstream.runtime.task import (
    Attempt,
    Execution,
    OutboxPart,
    PartitionMeta,
    PublishReceipt,
    PublishTask,
    StageReceipt,
    StageTask,
    StateChange,
)
from microstream.state.lanes import lane_starts

__all__ = ["LaneWorker", "StateMissingError"]

log = logging.getLogger("microstream.worker")

STATES_KEPT = 3
"""Per lane and operator: the durable one and those of two batches in flight, so that a retry finds its base."""

OUTBOX_BATCHES = 16
"""Rows waiting for publication stay in memory for so many batches; later they are read back from the store."""


class StateMissingError(Exception):
    """This worker does not hold the state that a task starts from, and it is not durable yet: run the attempt again."""


class LaneWorker:
    """All lanes of one job on one worker.

    Parameters
    ----------
    job
        The query.
    store
        Its checkpoint.
    address
        How other workers reach this one.
    exchange
        How this one reaches others.
    new_id
        Random ids.
    new_turn
        Makes locks that may be held while something outside is waited for.
    """

    def __init__(
        self,
        *,
        job: Job,
        store: ObjectStore,
        address: str,
        exchange: Exchange,
        new_id: Callable[[], str],
        new_turn: Callable[[], AbstractContextManager[Any]] = threading.Lock,
    ) -> None:
        self._job, self._address = job, address
        self._store = CountingStore(store)
        self._exchange, self._new_id = exchange, new_id
        self._shelf = Shelf(address)
        self._sealer = Sealer(self._store, new_id)
        self._states: dict[tuple[str, int], dict[str, LaneState]] = {}
        self._touched: dict[tuple[str, int], int] = {}
        self._outbox: dict[Segment, tuple[int, pa.Table]] = {}
        self._readers: dict[tuple[str, int], Reader] = {}
        self._writers: dict[tuple[str, int], Writer] = {}
        self._lock = threading.Lock()
        self._turns: dict[tuple[str, int], AbstractContextManager[Any]] = {}
        self._new_turn = new_turn
        stages = job.stages
        self._operators = {o.id: o for o in stages.operators}
        self._sinks = {sink.name: sink for sink in stages.sinks}
        self._instances = self._instantiated()

    def run(self, task: Task) -> Receipt:
        """Do `task`."""
        if isinstance(task, StageTask):
            with working_on(query=self._job.query, batch=task.attempt.batch, lane=task.lane):
                return self._run_stage(task)
        with working_on(query=self._job.query, batch=task.batch, lane=task.lane, sink=task.sink):
            return self._publish(task)

    def serve(self, wanted: Sequence[Fetch]) -> list[pa.Table]:
        """Exchange elements that this worker holds. Raises ExchangeLostError."""
        return [self._shelf.take(fetch) for fetch in wanted]

    def check_checkpoint(self) -> str:
        """Why this worker cannot read the checkpoint of its job; empty if it can. Raises StoreError: ask again."""
        try:
            found = self._store.get(JOB)
        except NotFoundError as problem:
            return str(problem)
        return "" if self._job.id.encode() in found else f"{self._store.url} holds another job here"

    def close(self) -> None:
        """Let go of consumers and producers."""
        for reader in self._readers.values():
            reader.close()
        for writer in self._writers.values():
            writer.close()

    # -- stages -------------------------------------------------------------------------------------------------

    def _run_stage(self, task: StageTask) -> StageReceipt:
        execution = Execution(level=task.level, lane=task.lane, address=self._address, id=self._new_id())
        # A discarded attempt may still be reading: a consumer serves one task at a time.
        with self._turn("read", task.lane) if task.ranges else nullcontext():
            incoming = read_sources(self._job.stages.sources, task, self._reader)
        steps = self._job.stages.stages[task.level].steps
        entering = {**incoming.rows, **bad_rows((step.node for step in steps), incoming)}
        with working_on():
            parts, changes = self._advance_operators(task, execution, entering)
        leaving = self._evaluate(task, incoming, entering)
        self._shelf.put(task.attempt, task.level, task.lane, execution.id, leaving.exchange)
        outputs = self._encode(leaving, task, execution, parts)
        sealed = self._sealer.add(task, parts)
        with self._lock:
            for stored, table in sealed:
                if stored.name.startswith("sink:"):
                    self._outbox[stored.segment] = (task.attempt.batch, table)
            for segment in [s for s, (b, _) in self._outbox.items() if b < task.attempt.batch - OUTBOX_BATCHES]:
                del self._outbox[segment]
        return StageReceipt(
            attempt=task.attempt,
            execution=execution,
            ranges=task.ranges,
            closing=task.closing,
            consumed=task.upstream,
            partitions=self._timed(task, incoming, leaving),
            late_rows=tuple(leaving.late_rows.items()),
            changes=tuple(changes),
            outputs=outputs,
            sealed=tuple(stored for stored, _ in sealed),
            traffic=self._store.take(),
        )

    def _evaluate(self, task: StageTask, incoming: Incoming, entering: dict[int, Rows | None]) -> Leaving:
        try:
            return evaluate(
                self._job.stages.stages[task.level],
                entering,
                self._job.stages.operators,
                dict(task.late),
                dict(task.closed_before),
                lane_starts(task.lanes),
                self._instances,
                lambda: self._places(task, incoming, entering),
            )
        except UserFunctionFailed as caught:
            failure = caught
        # Not in the except clause: as its context, `failure` would travel with the error, and the plan with it.
        raise self._blame(failure, task, incoming) from failure.cause

    def _places(self, task: StageTask, incoming: Incoming, entering: dict[int, Rows | None]) -> Places:
        if task.level == 0:
            return places_of_reads(incoming)
        nodes = [operator.node for operator in self._job.stages.operators if operator.level == task.level]
        found = [(node, entering.get(id(node))) for node in nodes]
        return places_of_results([(node, rows) for node, rows in found if rows is not None])

    def _timed(self, task: StageTask, incoming: Incoming, leaving: Leaving) -> tuple[PartitionMeta, ...]:
        """What the ledger learns; of sources whose event time the plan sets, from the rows that got it."""
        stages = self._job.stages
        if not stages.timed:
            return incoming.metas
        limits = {s.name: task.attempt.batch_time_us + s.max_ahead_us for s in stages.sources if s.name in stages.timed}
        return timed_metas(incoming, leaving.timed, limits)

    def _instantiated(self) -> Instances:
        """The classes given to `map_batches`, called. Raises UserFunctionError."""
        try:
            return instantiate(s.node for stage in self._job.stages.stages for s in stage.steps)
        except UserFunctionFailed as caught:
            failure = caught
        name = getattr(failure.node, "name", type(failure.node).__name__.lower())
        raise UserFunctionError(
            f"query {self._job.query}: {name} cannot be set up on worker {self._address}: "
            f"{type(failure.cause).__name__}: {failure.cause}. Mend its __init__ and start the query again.",
            operator=name,
            batch=None,
            lane=None,
            position="",
        ) from failure.cause

    def _blame(self, failure: UserFunctionFailed, task: StageTask, incoming: Incoming) -> UserFunctionError:
        name = getattr(failure.node, "name", type(failure.node).__name__.lower())
        position = incoming.position_of(failure.origin)
        what = f"{type(failure.cause).__name__}: {failure.cause}".rstrip(".")
        return UserFunctionError(
            f"query {self._job.query}, batch {task.attempt.batch}, lane {task.lane}: {name} failed at {position}: "
            f"{what}. Nothing of this batch was committed: mend the query and start it again"
            f"{self._which(incoming, failure.origin)}",
            operator=name,
            batch=task.attempt.batch,
            lane=task.lane,
            position=position,
        )

    def _which(self, incoming: Incoming, origin: int | None) -> str:
        """The end of the sentence: how to leave the record out, where its source can; else which row it is."""
        record = incoming.record_of(origin)
        if origin is None or record is None:
            return "."
        name, partition, offset = record
        source = next(node for node in self._job.stages.sources if node.name == name)
        if hasattr(source.spec, "skip"):
            return f", or pass the record with skip=[({partition!r}, {offset})]."
        return f". The row: {incoming.values_of(origin)}."

    def _turn(self, what: str, lane: int) -> AbstractContextManager[Any]:
        with self._lock:
            return self._turns.setdefault((what, lane), self._new_turn())

    def _reader(self, source: str, lane: int) -> Reader:
        with self._lock:
            reader = self._readers.get((source, lane))
            if reader is None:
                node = next(n for n in self._job.stages.sources if n.name == source)
                connector = connector_of(node, self._store)
                reader = self._readers[source, lane] = connector.open_reader(
                    name=source,
                    schema=node.read_schema,
                    event_time=None if node.takes_batch_time else node.event_time,
                    max_ahead_us=node.max_ahead_us,
                )
            return reader

    # -- state --------------------------------------------------------------------------------------------------

    def _advance_operators(
        self, task: StageTask, execution: Execution, entering: dict[int, Rows | None]
    ) -> tuple[list[Part], list[StateChange]]:
        """Fold what the exchange brings into the state of this level's operators; what they emit enters the stage."""
        parts, changes, entered = [], [], 0
        closing = dict(task.closing)
        for operator in (o for o in self._job.stages.operators if o.level == task.level):
            note(operator=operator.id)
            brought = self._fetch(operator, task)
            delta = pa.concat_tables(brought) if brought else None
            base = self._state(operator, task)
            done = advance(
                base,
                delta,
                operator.node,
                watermark_us=closing[operator.id],
                batch=task.attempt.batch,
                most_runs=max(2, MAX_RUNS // (task.lanes * len(self._operators)) - 1),
                unique=len(brought) == 1,
            )
            self._remember(operator.id, task.lane, task.attempt, base, done.state)
            rows = emitted(done, operator.node)
            if rows is not None:
                entering[id(operator.node)] = numbered(rows, entered)
                entered += rows.num_rows
            if done.added is not None:
                parts.append(Part(execution.id, f"run:{operator.id}", done.added.table))
            changes.append(_change(operator, done, delta))
        return parts, changes

    def _fetch(self, operator: Operator, task: StageTask) -> list[pa.Table]:
        """What lanes of the levels below left for this lane: one row per key and window each, and at least one."""
        attempt = task.attempt
        by_address: dict[str, list[Fetch]] = {}
        for source in task.upstream:
            if source.level in operator.inputs:
                by_address.setdefault(source.address, []).append(
                    Fetch(
                        job=attempt.job,
                        epoch=attempt.epoch,
                        batch=attempt.batch,
                        attempt=attempt.number,
                        level=source.level,
                        lane=source.lane,
                        execution=source.id,
                        operator=operator.id,
                        target=task.lane,
                    )
                )
        tables = [t for address, wanted in by_address.items() for t in self._exchange.fetch(address, wanted)]
        return [table for table in tables if table.num_rows]

    def _state(self, operator: Operator, task: StageTask) -> LaneState:
        held = self._states.get((operator.id, task.lane), {})
        state = held.get(task.attempt.base)
        return state if state is not None else self._load(operator, task)

    def _load(self, operator: Operator, task: StageTask) -> LaneState:
        """State of the lane as a manifest names it."""
        if task.base_at is None:
            raise StateMissingError(
                f"{self._address} lacks state {task.attempt.base} of {operator.id}, lane {task.lane}"
            )
        seq, commit_id = task.base_at
        key = manifest_key(seq)
        try:
            manifest = decode(self._store.get(key), key)
        except NotFoundError as problem:
            raise StateMissingError(f"{key} is gone") from problem
        if manifest.commit_id != commit_id:
            raise StateMissingError(f"{key} is commit {manifest.commit_id}, not {commit_id}")
        kept = next(state for state in manifest.operators if state.id == operator.id)
        bounds = (*kept.lane_starts, HASH_SPACE)
        return loaded(
            kept.runs,
            self._store,
            operator.node,
            lo=bounds[task.lane],
            hi=bounds[task.lane + 1],
            closed_before_us=kept.closed_before_us,
            watermark_us=kept.watermark_us,
        )

    def _remember(self, operator: str, lane: int, attempt: Attempt, base: LaneState, state: LaneState) -> None:
        """Keep the newest states by the commit they equal; being immutable, they cost what they do not share."""
        with self._lock:
            held = self._states.setdefault((operator, lane), {})
            held.pop(attempt.base, None)
            held[attempt.base] = base
            held[attempt.commit_id] = state
            while len(held) > STATES_KEPT:
                del held[next(iter(held))]
            self._touched[operator, lane] = attempt.batch
            # Every lane runs in every batch: one that did not lately has moved to another worker.
            for moved in [key for key, batch in self._touched.items() if batch < attempt.batch - STATES_KEPT]:
                del self._touched[moved], self._states[moved]

    # -- sinks --------------------------------------------------------------------------------------------------

    def _encode(
        self, leaving: Leaving, task: StageTask, execution: Execution, parts: list[Part]
    ) -> tuple[OutboxPart, ...]:
        outputs = []
        for name, rows in leaving.sinks:
            writer, node = self._writer(name, task.lane), self._sinks[name]
            encoded = writer.encode(rows.table, event_time=node.child.event_time)
            chunks: tuple[int, ...] = ()
            if encoded.num_rows:
                chunks = writer.chunks(encoded)
                parts.append(Part(execution.id, f"sink:{name}", encoded))
            together = node.spec.publication.together or node.is_whole
            outputs.append(OutboxPart(sink=name, rows=len(rows), chunks=chunks, together=together))
        return tuple(outputs)

    def _writer(self, sink: str, lane: int) -> Writer:
        with self._lock:
            writer = self._writers.get((sink, lane))
            if writer is None:
                node = self._sinks[sink]
                connector = cast(SinkConnector, node.spec)
                writer = self._writers[sink, lane] = connector.open_writer(
                    job=self._job.id, sink=sink, lane=lane, schema=node.schema
                )
            return writer

    def _publish(self, task: PublishTask) -> PublishReceipt:
        cached = [self._outbox.get(segment) for segment in task.outbox.segments]
        tables = [held[1] for held in cached if held is not None]
        if len(tables) < len(cached):
            tables = read_segments(self._store, task.outbox.segments)
        writer = self._writer(task.sink, task.lane)
        outgoing = Outgoing(
            job=task.job,
            sink=task.sink,
            lane=task.lane,
            batch=task.batch,
            committed=task.committed,
            rows=joined(tables, self._sinks[task.sink], writer),
            chunks=task.outbox.chunks,
            epoch=task.epoch,
        )
        with self._turn(f"sink:{task.sink}", task.lane):
            confirmed = writer.publish(outgoing)
        with self._lock:
            for segment in task.outbox.segments:
                self._outbox.pop(segment, None)
        return PublishReceipt(
            sink=task.sink,
            lane=task.lane,
            batch=task.batch,
            rows=confirmed.rows,
            skipped=confirmed.skipped,
            table=confirmed.table,
        )


def _change(operator: Operator, done: LaneStep, delta: pa.Table | None) -> StateChange:
    return StateChange(
        operator=operator.id,
        dropped=done.dropped,
        added=None if done.added is None else run_part(done.added, operator.node),
        rows_held=done.state.rows,
        rows_updated=0 if delta is None else delta.num_rows,
        rows_removed=closed_rows(done, operator.node),
        memory_bytes=done.state.nbytes,
    )
