"""At least once: produced from the outbox without transactions, confirmed when all in-sync replicas have it."""

from __future__ import annotations

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from microstream.clock import Clock, SystemClock
from microstream.connectors.kafka.client import refused
from microstream.connectors.kafka.outbox import RecordRules, TopicLimits
from microstream.connectors.kafka.writer import PRODUCE, enqueue
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

    def encode(self, table: pa.Table, *, event_time: str | None) -> pa.Table:
        """Key, value and time of every record. Raises BadRecordError for one that the topic would refuse."""
        return self._rules.encode(table, event_time=event_time, limits=self._accepts())

    def chunks(self, rows: pa.Table) -> tuple[int, ...]:
        """One: nothing is cut without transactions."""
        return (rows.num_rows,)

    def publish(self, outgoing: Outgoing) -> Confirmed:
        """Produce all rows and wait for the acknowledgement. Raises UnreachableError: try again."""
        self._failures.clear()
        try:
            producer = self._open()
            enqueue(producer, self._rules.topic, outgoing.rows, self._accepts(), self._clock.now_us() // 1000)
            left = producer.flush(self._wait_s)
        except KafkaException as problem:
            self.close()
            raise refused(problem, self._where(outgoing), self._rules.cluster) from problem
        if self._failures:
            failure = self._failures[0]
            self.close()
            raise refused(failure, self._where(outgoing), self._rules.cluster)
        if left:
            self.close()
            raise UnreachableError(
                f"{self._where(outgoing)}: {left} records were not acknowledged within {self._wait_s:.0f} s by "
                f"{self._rules.cluster.bootstrap_servers}. Is the cluster up?"
            )
        return Confirmed(rows=outgoing.rows.num_rows, skipped=False)

    def close(self) -> None:
        """Let go of the producer."""
        if self._producer is not None:
            self._producer.purge(blocking=False)
            self._producer = None

    def _where(self, outgoing: Outgoing) -> str:
        return f"sink {outgoing.sink!r}, lane {outgoing.lane}: batch {outgoing.batch} is not confirmed"

    def _open(self) -> Producer:
        if self._producer is None:
            settings = {**PRODUCE, "delivery.report.only.error": True}
            self._producer = self._rules.cluster.producer(settings, {"on_delivery": self._note})
        return self._producer

    def _note(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failures.append(error)

    def _accepts(self) -> TopicLimits:
        if self._limits is None:
            self._limits = self._rules.limits()
        return self._limits
