"""A topic of the model broker as an exactly-once sink: the production writer on fake clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
import pyarrow as pa
from confluent_kafka import KafkaException, TopicPartition

from microstream.connectors.kafka.client import Cluster
from microstream.connectors.kafka.marker import Marker, marker_group
from microstream.connectors.kafka.outbox import RECORDS, RecordRules, TopicLimits
from microstream.connectors.kafka.writer import TransactionalWriter
from microstream.errors import UnreachableError
from microstream.formats.json_encode import JsonEncoder
from microstream.plan.specs import OutputMode, Publication
from microstream.testing.simulation.broker import Broker
from microstream.testing.simulation.kafka import SimKafka
from microstream.testing.simulation.kernel import World, WorldClock

__all__ = ["SimSink", "rows_of"]

ROWS_PER_TRANSACTION = 5
"""Small, so that batches are cut into several transactions."""

WAIT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SimSink:
    """A sink spec; rows that are equal in the column `key` go to equal partitions."""

    world: World = field(repr=False, compare=False)
    broker: Broker = field(repr=False, compare=False)
    topic: str
    key: str = "key"
    kind: str = "sim"
    format: str = "json"
    durable: bool = True
    guarantee: str = "exactly once"

    @property
    def target(self) -> str:
        """The topic."""
        return self.topic

    @property
    def publication(self) -> Publication:
        """Lanes publish by themselves, batch by batch."""
        return Publication()

    def check(self, schema: pa.Schema) -> None:
        """Everything can be written."""

    def check_mode(self, mode: OutputMode) -> None:
        """In any mode."""

    def open_probe(self) -> SimSinkProbe:
        """The driver's view."""
        return SimSinkProbe(SimKafka(self.world, self.broker), self.topic)

    def open_writer(self, *, job: str, sink: str, lane: int, schema: pa.Schema) -> SimWriter:
        """A worker's view of one lane."""
        cluster = cast(Cluster, SimKafka(self.world, self.broker))
        rules = Rules(cluster=cluster, topic=self.topic, key=(self.key,), encoder=JsonEncoder())
        clock = WorldClock(self.world)
        return SimWriter(rules, job=job, sink=sink, lane=lane, wait_s=WAIT_S, clock=clock)


class Rules(RecordRules):
    """Records as production makes them, but for timestamps, which stay the microseconds that they are."""

    def encode(self, table: pa.Table, *, event_time: str | None, limits: TopicLimits) -> pa.Table:
        """One JSON object per row."""
        names, columns = table.column_names, [_plain(column).to_pylist() for column in table.columns]
        [key] = self.key
        keys = [str(value).encode() for value in columns[names.index(key)]]
        values = [orjson.dumps(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]
        arrays = [pa.array(keys, pa.large_binary()), pa.array(values, pa.large_binary())]
        return pa.Table.from_arrays([*arrays, pa.nulls(len(keys), pa.int64())], schema=RECORDS)

    def limits(self) -> TopicLimits:
        """Kafka's defaults."""
        return TopicLimits()


def _plain(column: Any) -> Any:
    return column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column


class SimWriter(TransactionalWriter):
    """The production writer with small transactions."""

    def chunks(self, rows: pa.Table) -> tuple[int, ...]:
        """A transaction holds five rows."""
        return (*range(ROWS_PER_TRANSACTION, rows.num_rows, ROWS_PER_TRANSACTION), rows.num_rows)


class SimSinkProbe:
    """Markers of all lanes."""

    def __init__(self, cluster: SimKafka, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic

    def check(self) -> None:
        """The topic is there."""

    def markers(self, job: str, sink: str, lanes: Sequence[int]) -> Mapping[int, int | None]:
        """Lane -> newest batch published, also in part."""
        found: dict[int, int | None] = {}
        for lane in lanes:
            consumer = self._cluster.consumer({}, group=marker_group(job, sink, lane))
            try:
                [offset] = consumer.committed([TopicPartition(self._topic, 0)])
            except KafkaException as problem:
                raise UnreachableError(f"marker of {sink}, lane {lane}: {problem}") from None
            batch = Marker.of(offset).batch
            found[lane] = batch if batch >= 0 else None
        return found

    def close(self) -> None:
        """Nothing to let go of."""


def rows_of(broker: Broker, topic: str) -> list[dict[str, Any]]:
    """What a read_committed reader sees in `topic`, partition by partition, in offset order."""
    rows = []
    for partition in range(broker.partitions(topic)):
        log = broker.log(topic, partition)
        rows += [orjson.loads(entry.value or b"null") for _, entry in log.committed(0, len(log.entries))]
    return rows
