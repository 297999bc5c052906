"""A cluster in a dictionary: lane workers that fetch from each other, and the driver's part of a batch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from microstream.checkpoint.codec import JobFile, encode_job
from microstream.checkpoint.commit import commit
from microstream.checkpoint.keys import JOB
from microstream.checkpoint.manifest import Kind, Manifest
from microstream.checkpoint.memory import MemoryStore
from microstream.connectors.memory.source import PARTITION
from microstream.connectors.protocol import Range
from microstream.plan.stages import Stages
from microstream.runtime.assembly import (
    assemble,
    closed_before,
    ledger_after,
    outbox_of,
    receipt_problems,
    unsealed,
    watermarks_after,
)
from microstream.runtime.changes import NOTHING, OnChange
from microstream.runtime.engine import ExchangeLostError, Fetch, Job
from microstream.runtime.flight import AttemptRecord, stage_tasks
from microstream.runtime.planning import Slice, finished_partitions
from microstream.runtime.recovery import first_manifest, resumed
from microstream.runtime.task import Attempt, OutboxRef, PublishTask, StageReceipt, StageTask
from microstream.runtime.worker import LaneWorker


@dataclass
class Network:
    """Workers by address; asking one that is gone fails as a closed connection would."""

    workers: dict[str, LaneWorker] = field(default_factory=dict)

    def fetch(self, address: str, wanted: Sequence[Fetch]) -> list[pa.Table]:
        if address not in self.workers:
            raise ExchangeLostError(f"{address} does not answer")
        return self.workers[address].serve(wanted)


@dataclass
class Cluster:
    """`stages` over memory sources on workers at `addresses`, lane by lane, and the checkpoint."""

    stages: Stages
    addresses: tuple[str, ...] = ("a", "b")
    store: MemoryStore = field(default_factory=MemoryStore)
    network: Network = field(default_factory=Network)
    attempts: int = 0

    def __post_init__(self) -> None:
        ids = itertools.count()
        self._new_id = lambda: f"{next(ids):032x}"
        self.store.create(JOB, encode_job(JobFile(job="job", created_us=0)))
        self.head = first_manifest(
            self.stages,
            job="job",
            commit_id="commit-0",
            epoch=1,
            owner="here",
            url=self.store.url,
            lanes=len(self.addresses),
            starts={s.name: ({PARTITION: 0}, {}) for s in self.stages.sources},
            now_us=0,
        )
        commit(self.store, self.head, previous=None, epoch=1)
        for address in self.addresses:
            self.start(address)

    def start(self, address: str) -> LaneWorker:
        """A worker that remembers nothing, in the place of any other with that address."""
        job = Job(id="job", epoch=1, query="q", stages=self.stages, checkpoint=self.store.url, storage_options={})
        worker = LaneWorker(job=job, store=self.store, address=address, exchange=self.network, new_id=self._new_id)
        self.network.workers[address] = worker
        return worker

    def change(self, stages: Stages, on_change: OnChange = NOTHING) -> None:
        """The query is started again with another plan, on workers that remember nothing."""
        going_on = resumed(self.head, stages, lanes=len(self.addresses), starts={}, on_change=on_change)
        following = replace(
            going_on,
            seq=self.head.seq + 1,
            parent=self.head.commit_id,
            commit_id=f"commit-{self.head.seq + 1}-changed",
            kind=Kind.START,
        )
        commit(self.store, following, previous=self.head, epoch=1)
        self.head, self.stages = following, stages
        for address in self.addresses:
            self.start(address)

    def record(self) -> AttemptRecord:
        """An attempt at the next batch, which reads the next frame of every source."""
        ranges = []
        for node in self.stages.sources:
            at = self._line(self.head, node.name)
            if at < len(node.spec.tables):  # type: ignore[attr-defined]
                ranges.append(Range(source=node.name, partition=PARTITION, start=at, end=at + 1))
        ends = {s.name: s.spec.open_probe().bounds() for s in self.stages.sources}  # type: ignore[attr-defined]
        slice_ = Slice(
            batch=self.head.batch + 1,
            batch_time_us=self.head.batch_time_us + 1,
            ranges=tuple(ranges),
            sources=self.head.sources,
            idle=frozenset(),
            finished=finished_partitions(self.head.sources, ends, ranges),
        )
        self.attempts += 1
        attempt = Attempt(
            job="job",
            epoch=1,
            batch=slice_.batch,
            number=self.attempts,
            commit_id=f"commit-{self.head.seq + 1}-{self.attempts}",
            base=self.head.commit_id,
            batch_time_us=slice_.batch_time_us,
        )
        late = tuple((o.id, o.watermark_us) for o in self.head.operators)
        return AttemptRecord(
            attempt=attempt,
            slice=slice_,
            placed=self.addresses,
            late=late,
            closed_before=closed_before(self.head, late, self.stages.operators),
            began_us=0,
        )

    def tasks(self, record: AttemptRecord, level: int) -> list[StageTask]:
        """The tasks of a level; those of the levels below must have been taken in."""
        if level == 1:
            metas = [meta for receipt in record.receipts for meta in receipt.partitions]
            nodes = {node.name: node for node in self.stages.sources}
            record.sources = ledger_after(record.slice, nodes, metas)
            record.closing = watermarks_after(record.late, self.stages.operators, record.sources)
        return stage_tasks(record, self.stages, level, (self.head.seq, self.head.commit_id))

    def run(self, task: StageTask) -> StageReceipt:
        """The task, on the worker of its lane."""
        receipt = self.network.workers[self.addresses[task.lane]].run(task)
        assert isinstance(receipt, StageReceipt)
        assert receipt_problems(task, receipt) == ()
        return receipt

    def run_levels(self, record: AttemptRecord) -> None:
        """All tasks of all levels, once each."""
        for level in range(len(self.stages.stages)):
            record.receipts += [self.run(task) for task in self.tasks(record, level)]

    def commit(self, record: AttemptRecord) -> Manifest:
        """The batch's manifest."""
        assert unsealed(record.receipts) == ()
        if len(self.stages.stages) == 1:
            metas = [meta for receipt in record.receipts for meta in receipt.partitions]
            record.sources = ledger_after(record.slice, {n.name: n for n in self.stages.sources}, metas)
        following = assemble(
            self.head,
            commit_id=record.attempt.commit_id,
            slice_=record.slice,
            sources=record.sources,
            watermarks=record.closing,
            operators=self.stages.operators,
            receipts=record.receipts,
            sinks=tuple(replace(s, published_through=self.head.batch, pending=()) for s in self.head.sinks),
            now_us=0,
        )
        commit(self.store, following, previous=self.head, epoch=1)
        self.head = following
        return following

    def batch(self) -> AttemptRecord:
        """One whole batch."""
        record = self.record()
        self.run_levels(record)
        self.commit(record)
        return record

    def publications(self, record: AttemptRecord) -> list[PublishTask]:
        """What the batch leaves for its sinks."""
        return [
            PublishTask(
                job="job",
                epoch=1,
                sink=sink,
                lane=lane.lane,
                batch=record.attempt.batch,
                committed=self.head.batch,
                try_number=1,
                outbox=OutboxRef(segments=lane.segments, chunks=lane.chunks),
            )
            for sink, batch in outbox_of(record.slice, record.receipts)
            for lane in batch.lanes
        ]

    def published(self, record: AttemptRecord) -> Mapping[str, pa.Table]:
        """Rows per sink, as its lanes publish them."""
        tables: dict[str, list[pa.Table]] = {}
        for task in self.publications(record):
            tables.setdefault(task.sink, []).append(self.network.workers[self.addresses[task.lane]].run(task).table)  # type: ignore[union-attr,arg-type]
        return {sink: pa.concat_tables(parts) for sink, parts in tables.items()}

    @staticmethod
    def _line(head: Manifest, source: str) -> int:
        return next(s.partitions[0].next_offset for s in head.sources if s.name == source)
