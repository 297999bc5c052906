"""A topic of the model broker as a source, read as the Kafka source reads: records are JSON arrays of integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import orjson
import pyarrow as pa

from microstream.connectors.kafka.rows import BadRecords, Layout, Taken, rows_of
from microstream.connectors.protocol import Bounds, Range, Read
from microstream.errors import OffsetExpiredError, UnreachableError
from microstream.formats.protocol import Decoded
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
"""Columns of the sources of a run; `id` is unique over all of them."""


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
    columns: pa.Schema = field(default=EVENTS, repr=False, compare=False)
    finite: bool = True
    on_bad_record: Literal["fail", "drop"] = "fail"
    on_data_loss: Literal["fail", "skip"] = "fail"
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
        return SimReader(self, schema)


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

    def ends(self) -> Mapping[str, int]:
        """Last stable ends."""

        def apply() -> Mapping[str, int]:
            logs = [self._topic.broker.log(self._topic.name, number) for number in range(self._topic.partitions)]
            return {f"{log.topic}-{log.partition}": log.stable_end for log in logs}

        return _ask(self._topic.world, f"kafka.ends {self._topic.name}", apply)

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
    """Reads ranges, each with one fetch; what becomes of bad records and tombstones is production's own code."""

    def __init__(self, source: SimSource, schema: pa.Schema) -> None:
        self._source = source
        self._topic = source.topic
        self._decoder = Arrays(columns=source.columns, schema=schema)
        self._layout = Layout(schema=schema)
        self._bad = BadRecords(action=source.on_bad_record)

    def read(self, ranges: Sequence[Range], *, batch_time_us: int) -> Read:
        """All rows of `ranges`; what was not committed is not there."""
        taken = [self._fetch(wanted) for wanted in ranges]
        return rows_of(taken, self._decoder, self._layout, latest_us=batch_time_us, policy=self._bad)

    def _fetch(self, wanted: Range) -> Taken:
        number = int(wanted.partition.rpartition("-")[2])

        def apply() -> tuple[int, list[tuple[int, Entry]]]:
            log = self._topic.broker.log(self._topic.name, number)
            if wanted.end > log.stable_end:
                # Where a real consumer waits for ever, a plan that goes beyond the stable end must not pass unseen.
                raise BrokerError(f"{wanted} ends beyond the stable end {log.stable_end}")
            return log.low, log.committed(wanted.start, wanted.end)

        low, found = _ask(self._topic.world, f"kafka.fetch {wanted.partition} [{wanted.start},{wanted.end})", apply)
        if wanted.start < min(low, wanted.end) and self._source.on_data_loss == "fail":
            raise OffsetExpiredError(
                f"{wanted.partition}: offset {wanted.start} has expired, the oldest is {low}",
                partition=wanted.partition,
                wanted=wanted.start,
                earliest=low,
            )
        offsets, values = [offset for offset, _ in found], [entry.value for _, entry in found]
        return Taken(range=wanted, offsets=offsets, values=values)

    def close(self) -> None:
        """Nothing to let go of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrays:
    """Reads records that hold one integer per column (a `Decoder`); `schema`: those wanted."""

    columns: pa.Schema
    schema: pa.Schema

    def decode(self, messages: Sequence[bytes], *, latest_us: int | None = None) -> Decoded:
        """Rows of `messages`, and which others are bad; no time is too far ahead."""
        documents = [_integers(message) for message in messages]
        width = len(self.columns)
        bad = [at for at, found in enumerate(documents) if len(found) != width]
        rows = [found for found in documents if len(found) == width]
        values = dict(zip(self.columns.names, zip(*rows, strict=True), strict=True)) if rows else {}
        arrays = [pa.array(values.get(column.name, ()), type=column.type) for column in self.schema]
        table = pa.Table.from_arrays(arrays, schema=self.schema)
        return Decoded(table=table, bad=tuple((at, f"not an array of {width} integers") for at in bad))


def _integers(message: bytes) -> list[int]:
    """The integers of a JSON array; nothing where it is anything else."""
    try:
        document = orjson.loads(message)
    except orjson.JSONDecodeError:
        return []
    return document if isinstance(document, list) and set(map(type, document)) <= {int} else []


def _ask(world: World, operation: str, apply: Callable[[], T]) -> T:
    try:
        return world.call(operation, apply)
    except (Unanswered, BrokerError) as problem:
        raise UnreachableError(f"{operation}: {problem}") from None
