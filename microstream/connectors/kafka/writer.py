"""Exactly once: one transaction per chunk, with a marker inside it that says which batch it was.

The order is: `init_transactions` (fences every older producer of the lane and aborts what it left open), read the
marker, then produce and commit what is missing. An outcome that is not success tells nothing: the producer is dropped,
and the next attempt begins with init and marker again.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import repeat
from typing import Any

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from microstream.clock import Clock, SystemClock
from microstream.connectors.kafka.bounded import within
from microstream.connectors.kafka.complaints import Complaints, explained
from microstream.connectors.kafka.marker import Marker, chunks_done, marker_group
from microstream.connectors.kafka.outbox import RecordRules, TopicLimits, chunk_bounds, headers_of
from microstream.connectors.protocol import Confirmed, Outgoing

__all__ = ["PRODUCE", "TransactionalWriter", "enqueue", "sizes"]

PRODUCE = {
    "compression.type": "lz4",
    "linger.ms": 5,
    "queue.buffering.max.messages": 500_000,
    "queue.buffering.max.kbytes": 1 << 20,
    "batch.num.messages": 20_000,
}
LARGEST_BATCH_BYTES = 1_000_000


class TransactionalWriter:
    """See `microstream.connectors.protocol.Writer`; for one (job, epoch, sink, lane).

    `limits` None: the topic is asked once.
    """

    def __init__(
        self,
        rules: RecordRules,
        *,
        job: str,
        sink: str,
        lane: int,
        wait_s: float,
        limits: TopicLimits | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._rules = rules
        self._sink = sink
        self._lane = lane
        self._group = marker_group(job, sink, lane)
        self._wait_s = wait_s
        self._clock = clock or SystemClock()
        self._limits = limits
        self._producer: Producer | None = None
        self._membership: Any = None
        self._committed_here: int | None = None
        self._lost = False
        self._complaints = Complaints()

    def encode(self, table: pa.Table, *, event_time: str | None) -> pa.Table:
        """Key, value and time of every record. Raises BadRecordError for one that the topic would refuse."""
        return self._rules.encode(table, event_time=event_time, limits=self._accepts())

    def chunks(self, rows: pa.Table) -> tuple[int, ...]:
        """Where `rows` are cut into transactions."""
        return chunk_bounds(rows)

    def publish(self, outgoing: Outgoing) -> Confirmed:
        """Commit the chunks that are missing.

        Raises MarkerAheadError, CheckpointError, ConnectorError (fix ACLs or settings), and UnreachableError when the
        cluster is not there or the outcome is unknown: try again.
        """
        if not outgoing.rows.num_rows:
            return Confirmed(rows=0, skipped=False)
        done = 0
        try:
            if self._committed_here is None or outgoing.batch <= self._committed_here or self._has_lost_a_broker():
                done = self._begin(outgoing)
            for number in range(done, len(outgoing.chunks)):
                self._commit_chunk(outgoing, number)
        except KafkaException as problem:
            if self._producer is not None:
                with suppress(KafkaException):  # A fatal error is raised by every call.
                    self._producer.poll(0)
            self.close()
            what = f"sink {outgoing.sink!r}, lane {outgoing.lane}: batch {outgoing.batch} is not confirmed"
            raise explained(problem, what, self._rules.cluster, self._complaints) from problem
        except BaseException:
            self.close()
            raise
        if done < len(outgoing.chunks):
            self._committed_here = outgoing.batch
        first = outgoing.chunks[done - 1] if done else 0
        return Confirmed(rows=outgoing.rows.num_rows - first, skipped=done == len(outgoing.chunks))

    def close(self) -> None:
        """Let go of the producer; what it has not committed will be aborted by the next one."""
        if self._producer is not None:
            self._producer.purge(blocking=False)
            self._producer = None
        self._committed_here = None

    def _has_lost_a_broker(self) -> bool:
        """Whether a connection of the producer broke: its next transaction might hang, and a new one costs 50 ms."""
        assert self._producer is not None
        self._producer.poll(0)
        return self._lost

    def _note(self, error: KafkaError) -> None:
        self._complaints(error)
        self._lost = self._lost or error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)

    def _begin(self, outgoing: Outgoing) -> int:
        """A new producer, and how many chunks of the batch its lane's marker vouches for."""
        self.close()
        limits = self._accepts()
        settings = {**PRODUCE, **sizes(limits)}
        self._lost = False
        self._complaints.forget()
        fixed = {"transactional.id": self._group, "error_cb": self._note}
        self._producer = self._rules.cluster.producer(settings, fixed)
        within(self._wait_s, self._producer.init_transactions)
        return chunks_done(
            self._read_marker(),
            batch=outgoing.batch,
            chunks=len(outgoing.chunks),
            committed=outgoing.committed,
            sink=self._sink,
            lane=self._lane,
        )

    def _read_marker(self) -> Marker:
        consumer = self._rules.cluster.consumer({}, group=self._group)
        try:
            self._membership = consumer.consumer_group_metadata()
            [found] = consumer.committed([TopicPartition(self._rules.topic, 0)], self._wait_s)
            if found.error is not None:
                raise KafkaException(found.error)
        except KafkaException as problem:
            if problem.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return Marker()
            raise
        finally:
            consumer.close()
        return Marker.of(found)

    def _commit_chunk(self, outgoing: Outgoing, number: int) -> None:
        assert self._producer is not None
        start = outgoing.chunks[number - 1] if number else 0
        rows = outgoing.rows.slice(start, outgoing.chunks[number] - start)
        self._producer.begin_transaction()
        now_ms = self._clock.now_us() // 1000
        enqueue(self._producer, self._rules.topic, rows, self._accepts(), now_ms)
        self._flush(rows.num_rows)
        marker = Marker(batch=outgoing.batch, chunk=number + 1, chunks=len(outgoing.chunks))
        offsets = [marker.at(self._rules.topic)]
        within(self._wait_s, self._producer.send_offsets_to_transaction, offsets, self._membership)
        within(self._wait_s, self._producer.commit_transaction)

    def _flush(self, before: int) -> None:
        """Wait for as long as any of `before` records are acknowledged.

        A broker may slow us down, and `commit_transaction` would give up; `transaction.timeout.ms` still bounds it all.
        """
        assert self._producer is not None
        while left := within(self._wait_s, self._producer.flush):
            if left >= before:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{left} records were not acknowledged"))
            before = left

    def _accepts(self) -> TopicLimits:
        if self._limits is None:
            self._limits = self._rules.limits()
        return self._limits


def sizes(limits: TopicLimits) -> dict[str, int]:
    """Settings of a producer for a topic: as large as it accepts, whatever the client's own limit is."""
    largest = {"message.max.bytes": limits.largest_bytes} if limits.largest_bytes >= 1_000 else {}
    return {"batch.size": min(LARGEST_BATCH_BYTES, limits.largest_bytes), **largest}


def enqueue(producer: Producer, topic: str, rows: pa.Table, limits: TopicLimits, now_ms: int) -> None:
    """Hand all rows to the client (0.8 M/s; its `produce_batch` cannot set the record's time)."""
    produce, headers = producer.produce, headers_of(rows) or repeat(None, rows.num_rows)
    times = limits.accepted(rows["time_ms"], now_ms)
    keys, values = rows["key"].to_pylist(), rows["value"].to_pylist()
    for key, value, timestamp, own in zip(keys, values, times, headers, strict=True):
        while True:
            try:
                produce(topic, value, key, timestamp=timestamp, headers=own)
                break
            except BufferError:
                producer.poll(0.05)
