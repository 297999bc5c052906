"""The source and sink models pass the contracts that real connectors pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import orjson
import pytest

from microstream.testing.connectors import SCHEMA, SinkContract, SourceContract
from microstream.testing.simulation.broker import Broker, Entry
from microstream.testing.simulation.kafka import SimProducer
from microstream.testing.simulation.kernel import World
from microstream.testing.simulation.seams import on_this_thread
from microstream.testing.simulation.sink import SimSink, rows_of
from microstream.testing.simulation.source import SimSource, Topic

T = TypeVar("T")

SETTLED_S = 1.0
"""A transaction that was decided is visible long before."""


class Doorway:
    """A world without faults, for callers outside of it: each call is a process of its own."""

    def __init__(self) -> None:
        self.world = World(0)
        self.broker = Broker(self.world)

    def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """What `function` returns or raises inside."""

        async def main() -> T:
            return await self.world.start(self.world.actor("client"), function, *args, **kwargs)

        return self.world.run(main())

    def settle(self) -> None:
        """Let what was decided become visible."""
        self.call(self.world.sleep, SETTLED_S)


class Inside:
    """An object of the world whose methods are called inside; what they open is used inside, too."""

    def __init__(self, doorway: Doorway, thing: Any) -> None:
        self._doorway = doorway
        self._thing = thing

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._thing, name)
        if not callable(found):
            return found

        def method(*args: Any, **kwargs: Any) -> Any:
            answer = self._doorway.call(found, *args, **kwargs)
            return Inside(self._doorway, answer) if name.startswith("open_") else answer

        return method


class SimSourceHarness:
    """A topic with two partitions."""

    def __init__(self) -> None:
        self.doorway = Doorway()
        self.topic = Topic(self.doorway.world, self.doorway.broker, "source", 2)

    @property
    def partitions(self) -> tuple[str, str]:
        return "source-0", "source-1"

    def connector(self, **options: Any) -> Any:
        return Inside(self.doorway, SimSource(topic=self.topic, name="source", columns=SCHEMA, **options))

    def append(self, partition: str, values: Sequence[int | None]) -> None:
        self.write(partition, [record(n) for n in values])

    def append_bad(self, partition: str) -> None:
        self.write(partition, [b'["one"]'])

    def write(self, partition: str, records: Sequence[bytes | None]) -> None:
        entries = [Entry(value=value) for value in records]
        self.doorway.broker.append("source", number_of(partition), entries)

    def append_aborted(self, partition: str, values: Sequence[int]) -> None:
        self.doorway.call(self.begin(partition, values).abort_transaction)

    def append_open(self, partition: str, values: Sequence[int]) -> Callable[[], None]:
        producer = self.begin(partition, values)

        def commit() -> None:
            self.doorway.call(producer.commit_transaction)
            self.doorway.settle()

        return commit

    def begin(self, partition: str, values: Sequence[int]) -> SimProducer:
        """A producer whose transaction is open, with `values` acknowledged by the broker."""
        doorway = self.doorway
        producer = SimProducer(doorway.world, doorway.broker, {"transactional.id": doorway.world.new_id()})

        def work() -> None:
            producer.init_transactions()
            producer.begin_transaction()
            for n in values:
                producer.produce("source", record(n), partition=number_of(partition))
            producer.flush()

        doorway.call(work)
        return producer

    def expire(self, partition: str, before: int) -> None:
        self.doorway.broker.delete_records("source", number_of(partition), before)


class SimSinkHarness:
    """A topic with two partitions."""

    def __init__(self) -> None:
        self.doorway = Doorway()
        self.doorway.broker.create_topic("sink", 2)

    def connector(self) -> Any:
        sink = SimSink(world=self.doorway.world, broker=self.doorway.broker, topic="sink", key="n")
        return Inside(self.doorway, sink)

    def published(self) -> list[int]:
        self.doorway.settle()
        return sorted(row["n"] for row in rows_of(self.doorway.broker, "sink"))


class TestSimSource(SourceContract):
    @pytest.fixture
    def harness(self) -> SimSourceHarness:
        return SimSourceHarness()


class TestSimSink(SinkContract):
    @pytest.fixture
    def harness(self) -> Iterator[SimSinkHarness]:
        with on_this_thread():
            yield SimSinkHarness()


def record(n: int | None) -> bytes | None:
    return None if n is None else orjson.dumps([n])


def number_of(partition: str) -> int:
    return int(partition.rpartition("-")[2])
