"""A topic of the model broker as a source of events `id, key, value, ts`, read as the Kafka source reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import orjson
import pyarrow as pa

from microstream.connectors.protocol import Bounds, Range, RangeCount, Read
from microstream.errors import UnreachableError
from microstream.testing.simulation.broker import Broker, BrokerError, Entry
from microstream.testing.simulation.kernel import Unanswered, World

__all__ = ["EVENTS", "SimEvent", "SimSource", "Topic"]

T = TypeVar("T")

EVENTS = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("key", pa.int64(), nullable=False),
        pa.field("value", pa.int64(), nullable=False),
        pa.field("ts", pa.timestamp("us")),
    ]
)
"""Columns of every simulated source; `id` is unique over all sources of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimEvent:
    """One input row; `ts_us` is its event time."""

    id: int
    key: int
    value: int
    ts_us: int

    def entry(self) -> Entry:
        """The record of this event."""
        return Entry(value=orjson.dumps((self.id, self.key, self.value, self.ts_us)), timestamp_ms=self.ts_us // 1000)


class Topic:
    """An input topic: production at will, and whether anything will ever follow."""

    def __init__(self, world: World, broker: Broker, name: str, partitions: int) -> None:
        self.world = world
        self.broker = broker
        self.name = name
        self.ended = False
        broker.create_topic(name, partitions)

    @property
    def partitions(self) -> int:
        """How many there are now."""
        return self.broker.partitions(self.name)

    def produce(self, partition: int, event: SimEvent) -> None:
        """Append one event, at once (the producer is not part of what is tested)."""
        self.broker.append(self.name, partition, [event.entry()])

    def all_entries(self, partition: int) -> list[tuple[int, Entry]]:
        """Everything readable, with offsets."""
        log = self.broker.log(self.name, partition)
        return log.committed(log.low, len(log.entries))


@dataclass(frozen=True, slots=True, kw_only=True)
class SimSource:
    """A source spec over `topic`; with `finite` the source is at its end when the topic has `ended`."""

    topic: Topic = field(repr=False, compare=False)
    name: str
    finite: bool = True
    kind: str = "sim"

    @property
    def target(self) -> str:
        """The topic."""
        return self.name

    def open_probe(self) -> SimProbe:
        """The driver's view."""
        return SimProbe(self.topic, finite=self.finite)

    def open_reader(self, *, name: str, schema: pa.Schema, event_time: str | None, max_ahead_us: int) -> SimReader:
        """A worker's view."""
        return SimReader(self.topic, schema)


class SimProbe:
    """Partitions and ends, asked for over the network."""

    def __init__(self, topic: Topic, *, finite: bool) -> None:
        self._topic = topic
        self._finite = finite

    def start_offsets(self, start: str) -> Mapping[str, int]:
        """Low or stable end of every partition."""
        return {name: at.low if start == "earliest" else at.end for name, at in self.bounds().items()}

    def bounds(self) -> Mapping[str, Bounds]:
        """What the broker says of all partitions."""

        def apply() -> Mapping[str, Bounds]:
            finished = self._finite and self._topic.ended
            logs = [self._topic.broker.log(self._topic.name, number) for number in range(self._topic.partitions)]
            return {
                f"{log.topic}-{log.partition}": Bounds(low=log.low, end=log.stable_end, finished=finished)
                for log in logs
            }

        return _ask(self._topic.world, f"kafka.bounds {self._topic.name}", apply)

    def unstable_ends(self) -> Mapping[str, int]:
        """Ends with the records of open transactions."""

        def apply() -> Mapping[str, int]:
            logs = [self._topic.broker.log(self._topic.name, number) for number in range(self._topic.partitions)]
            return {f"{log.topic}-{log.partition}": len(log.entries) for log in logs}

        return _ask(self._topic.world, f"kafka.unstable_ends {self._topic.name}", apply)

    def identity(self) -> Mapping[str, str]:
        """The topic never changes."""
        return {self._topic.name: "1"}

    def offsets_at(self, time_us: int, partitions: Sequence[str]) -> Mapping[str, int | None]:
        """The first record with a time at or after `time_us`, by record time."""

        def apply() -> Mapping[str, int | None]:
            return {name: self._first_at(name, time_us) for name in partitions}

        return _ask(self._topic.world, f"kafka.offsets_at {self._topic.name}", apply)

    def _first_at(self, name: str, time_us: int) -> int | None:
        entries = self._topic.all_entries(int(name.rpartition("-")[2]))
        return next((offset for offset, entry in entries if entry.timestamp_ms * 1000 >= time_us), None)

    def close(self) -> None:
        """Nothing to let go of."""


class SimReader:
    """Reads ranges, each with one fetch."""

    def __init__(self, topic: Topic, schema: pa.Schema) -> None:
        self._topic = topic
        self._schema = schema

    def read(self, ranges: Sequence[Range], *, batch_time_us: int) -> Read:
        """All rows of `ranges`; what was not committed is not there."""
        rows: list[tuple[int, int, int, int]] = []
        offsets: list[int] = []
        counts = []
        for wanted in ranges:
            found = self._fetch(wanted)
            rows.extend(orjson.loads(entry.value or b"") for _, entry in found)
            offsets.extend(offset for offset, _ in found)
            size = sum(len(entry.value or b"") for _, entry in found)
            counts.append(_count(wanted, len(found), size))
        columns = dict(zip(EVENTS.names, zip(*rows, strict=True), strict=True)) if rows else {}
        arrays = [pa.array(columns.get(f.name, ()), type=f.type) for f in self._schema]
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        return Read(table=table, offsets=np.array(offsets, dtype=np.int64), counts=tuple(counts))

    def _fetch(self, wanted: Range) -> list[tuple[int, Entry]]:
        number = int(wanted.partition.rpartition("-")[2])

        def apply() -> list[tuple[int, Entry]]:
            return self._topic.broker.log(self._topic.name, number).committed(wanted.start, wanted.end)

        return _ask(self._topic.world, f"kafka.fetch {wanted.partition} [{wanted.start},{wanted.end})", apply)

    def close(self) -> None:
        """Nothing to let go of."""


def _count(wanted: Range, rows: int, size: int) -> RangeCount:
    return RangeCount(
        partition=wanted.partition,
        start=wanted.start,
        end=wanted.end,
        rows=rows,
        bad=0,
        tombstones=0,
        bytes=size,
    )


def _ask(world: World, operation: str, apply: Callable[[], T]) -> T:
    try:
        return world.call(operation, apply)
    except (Unanswered, BrokerError) as problem:
        raise UnreachableError(f"{operation}: {problem}") from None
