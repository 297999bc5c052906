"""At least once: produced without transactions as soon as computed, which waits until all in-sync replicas have it.

Nothing is left for the outbox: the task that computed the rows ends after the acknowledgement, so that no manifest
precedes it. What that costs: a batch that is tried again is there again, and an attempt that never commits stays.
"""

from __future__ import annotations

import threading

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from microstream.clock import Clock, SystemClock
from microstream.connectors.kafka.client import refused
from microstream.connectors.kafka.complaints import Complaints, explained
from microstream.connectors.kafka.outbox import RECORDS, RecordRules, TopicLimits
from microstream.connectors.kafka.writer import PRODUCE, enqueue, sizes
from microstream.connectors.protocol import Confirmed, Outgoing
from microstream.errors import UnreachableError

__all__ = ["EagerWriter"]


class EagerWriter:
    """See `microstream.connectors.protocol.Writer`; without transactions, so a repeated batch is there twice."""

    def __init__(self, rules: RecordRules, *, sink: str, wait_s: float, clock: Clock | None = None) -> None:
        self._rules = rules
        self._sink = sink
        self._wait_s = wait_s
        self._clock = clock or SystemClock()
        self._limits: TopicLimits | None = None
        self._producer: Producer | None = None
        self._failures: list[KafkaError] = []
        self._complaints = Complaints()
        self._turn = threading.Lock()

    def encode(self, table: pa.Table, *, event_time: str | None) -> pa.Table:
        """Produce all rows and wait for the acknowledgement; nothing is left to publish.

        Raises BadRecordError for a row that the topic would refuse, UnreachableError: try again.
        """
        with self._turn:
            rows = self._rules.encode(table, event_time=event_time, limits=self._accepts())
            self._produce(rows, f"sink {self._sink!r}: rows are not acknowledged")
        return RECORDS.empty_table()

    def chunks(self, rows: pa.Table) -> tuple[int, ...]:
        """One: nothing is cut without transactions."""
        return (rows.num_rows,)

    def publish(self, outgoing: Outgoing) -> Confirmed:
        """Produce what was left in the outbox when the sink was exactly once. Raises UnreachableError: try again."""
        with self._turn:
            self._produce(
                outgoing.rows,
                f"sink {outgoing.sink!r}, lane {outgoing.lane}: batch {outgoing.batch} is not confirmed",
            )
        return Confirmed(rows=outgoing.rows.num_rows, skipped=False)

    def close(self) -> None:
        """Let go of the producer."""
        if self._producer is not None:
            self._producer.purge(blocking=False)
            self._producer = None

    def _produce(self, rows: pa.Table, where: str) -> None:
        if not rows.num_rows:
            return
        self._failures.clear()
        self._complaints.forget()
        try:
            producer = self._open()
            enqueue(producer, self._rules.topic, rows, self._accepts(), self._clock.now_us() // 1000)
            left = producer.flush(self._wait_s)
        except KafkaException as problem:
            self.close()
            raise explained(problem, where, self._rules.cluster, self._complaints) from problem
        if self._failures:
            failure = self._failures[0]
            self.close()
            raise explained(failure, where, self._rules.cluster, self._complaints)
        if left:
            self.close()
            if lasting := self._complaints.lasting:
                raise refused(lasting, where, self._rules.cluster)
            raise UnreachableError(
                f"{where}: {left} records were not acknowledged within {self._wait_s:.0f} s by "
                f"{self._rules.cluster.bootstrap_servers}. Is the cluster up?"
            )

    def _open(self) -> Producer:
        if self._producer is None:
            settings = {**PRODUCE, **sizes(self._accepts()), "delivery.report.only.error": True}
            self._producer = self._rules.cluster.producer(
                settings, {"on_delivery": self._note, "error_cb": self._complaints}
            )
        return self._producer

    def _note(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failures.append(error)

    def _accepts(self) -> TopicLimits:
        if self._limits is None:
            self._limits = self._rules.limits()
        return self._limits
