"""Clients of the model broker with the methods of confluent-kafka, so that production code can be run on
them.

Only what microstream calls is there. Like librdkafka, a producer buffers messages and sends them no later
than at `flush` or `commit_transaction`; what goes wrong is a `KafkaException` whose `KafkaError` has
librdkafka's code. A call that gets no answer is `_TIMED_OUT`, and may have been applied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from microstream.testing.simulation.broker import Broker, BrokerError, Entry, Fenced, NotStable, Unavailable
from microstream.testing.simulation.kernel import Unanswered, World

__all__ = ["SimConsumer", "SimKafka", "SimProducer"]

T = TypeVar("T")

UNSTABLE_RETRIES = 50
UNSTABLE_WAIT_S = 0.1
"""The client asks again by itself while a group offset is undecided (facts: about 0.1 s after a commit)."""


def _refusal(error: BrokerError) -> KafkaException:
    match error:
        case Fenced():
            return KafkaException(KafkaError(KafkaError._FENCED, str(error), fatal=True))
        case Unavailable():
            return KafkaException(KafkaError(KafkaError._TRANSPORT, str(error), retriable=True))
        case _:
            return KafkaException(KafkaError(KafkaError._STATE, str(error)))


def _call(world: World, operation: str, apply: Callable[[], T]) -> T:
    try:
        return world.call(operation, apply)
    except Unanswered as silence:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, str(silence), retriable=True)) from None
    except NotStable:
        raise
    except BrokerError as error:
        raise _refusal(error) from None


class _Group:
    """What `consumer_group_metadata` returns: opaque to callers."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Message:
    """A delivered message, as delivery callbacks see it."""

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        self._place = (topic, partition, offset)

    def topic(self) -> str:
        return self._place[0]

    def partition(self) -> int:
        return self._place[1]

    def offset(self) -> int:
        return self._place[2]


class SimProducer:
    """A transactional or plain producer (confluent_kafka.Producer)."""

    def __init__(self, world: World, broker: Broker, config: Mapping[str, Any]) -> None:
        self._world = world
        self._broker = broker
        self._owner: str | None = config.get("transactional.id")
        self._epoch = -1
        self._in_transaction = False
        self._spoilt = False
        self._buffer: list[tuple[str, int, Entry, Callable[..., None] | None]] = []

    def init_transactions(self, timeout: float = -1) -> None:
        """Fence older producers of this transactional id."""
        owner = self._require_owner()
        self._epoch = _call(self._world, f"kafka.init {owner}", lambda: self._broker.init_transactions(owner))

    def begin_transaction(self) -> None:
        """Local: the broker learns of a transaction with its first record or offset."""
        if self._epoch < 0:
            raise KafkaException(KafkaError(KafkaError._STATE, "init_transactions was not called"))
        if self._in_transaction:
            raise KafkaException(KafkaError(KafkaError._STATE, "a transaction is open"))
        self._in_transaction = True

    def produce(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int = -1,
        on_delivery: Callable[..., None] | None = None,
        timestamp: int = 0,
        headers: Any = None,
    ) -> None:
        """Buffer one message; equal keys go to equal partitions."""
        if partition < 0:
            partition = self._partition(topic, key)
        entry = Entry(key=key, value=value, timestamp_ms=timestamp, headers=tuple(headers or ()))
        self._buffer.append((topic, partition, entry, on_delivery))

    def _partition(self, topic: str, key: bytes | None) -> int:
        count = self._broker.partitions(topic)
        return sum(key) % count if key else 0

    def poll(self, timeout: float = 0) -> int:
        """Nothing: callbacks are served by `flush`."""
        return 0

    def flush(self, timeout: float = -1) -> int:
        """Send what is buffered, one request per partition; how many messages are left."""
        while self._buffer:
            topic, partition = self._buffer[0][:2]
            sent = [item for item in self._buffer if item[:2] == (topic, partition)]
            self._buffer = [item for item in self._buffer if item[:2] != (topic, partition)]
            self._send(topic, partition, [(entry, told) for _, _, entry, told in sent])
        return 0

    def _send(self, topic: str, partition: int, messages: Sequence[tuple[Entry, Callable[..., None] | None]]) -> None:
        entries = [entry for entry, _ in messages]
        owner, epoch = self._owner, self._epoch

        def apply() -> int:
            if owner is None:
                return self._broker.append(topic, partition, entries)
            return self._broker.append_in(owner, epoch, topic, partition, entries)

        start = _call(self._world, f"kafka.produce {topic}-{partition} {len(entries)} rows", apply)
        for place, (_, told) in enumerate(messages):
            if told is not None:
                told(None, _Message(topic, partition, start + place))

    def send_offsets_to_transaction(self, offsets: Sequence[TopicPartition], group: Any, timeout: float = -1) -> None:
        """Make group offsets part of the transaction."""
        owner = self._require_owner()
        sent = {(group.name, o.topic, o.partition): (o.offset, o.metadata or "") for o in offsets}
        what = ", ".join(f"{name} {offset}" for (name, _, _), (offset, _) in sent.items())
        _call(
            self._world,
            f"kafka.send_offsets {what}",
            lambda: self._broker.send_offsets(owner, self._epoch, sent),
        )

    def commit_transaction(self, timeout: float = -1) -> None:
        """Send the rest, then decide. A transaction that lost a message can only be aborted."""
        self.flush()
        if self._spoilt:
            raise KafkaException(KafkaError(KafkaError._PURGE_QUEUE, "purged", txn_requires_abort=True))
        owner = self._require_owner()
        _call(
            self._world,
            f"kafka.commit {owner}",
            lambda: self._broker.end(owner, self._epoch, commit=True),
        )
        self._in_transaction = False

    def abort_transaction(self, timeout: float = -1) -> None:
        """Drop the rest, then decide against."""
        self._buffer.clear()
        owner = self._require_owner()
        _call(
            self._world,
            f"kafka.abort {owner}",
            lambda: self._broker.end(owner, self._epoch, commit=False),
        )
        self._in_transaction = False

    def purge(self, **_what: bool) -> None:
        """Forget what is buffered."""
        self._spoilt = self._spoilt or (self._in_transaction and bool(self._buffer))
        self._buffer.clear()

    def close(self) -> None:
        """Forget what is buffered."""
        self._buffer.clear()

    def __len__(self) -> int:
        return len(self._buffer)

    def _require_owner(self) -> str:
        if self._owner is None:
            raise KafkaException(KafkaError(KafkaError._NOT_CONFIGURED, "no transactional.id"))
        return self._owner


class SimConsumer:
    """The part of confluent_kafka.Consumer that reads markers."""

    def __init__(self, world: World, broker: Broker, config: Mapping[str, Any]) -> None:
        self._world = world
        self._broker = broker
        self._group = str(config["group.id"])

    def consumer_group_metadata(self) -> Any:
        """Opaque; for `send_offsets_to_transaction`."""
        return _Group(self._group)

    def committed(self, partitions: Sequence[TopicPartition], timeout: float = -1) -> list[TopicPartition]:
        """Group offsets; offset -1001 where there is none. Waits while a transaction is undecided."""
        return [self._committed(p.topic, p.partition) for p in partitions]

    def _committed(self, topic: str, partition: int) -> TopicPartition:
        key = (self._group, topic, partition)
        for _ in range(UNSTABLE_RETRIES):
            try:
                found = _call(self._world, f"kafka.committed {self._group}", lambda: self._broker.committed_offset(key))
            except NotStable:
                self._world.sleep(UNSTABLE_WAIT_S)
                continue
            if found is None:
                return TopicPartition(topic, partition, -1001)
            return TopicPartition(topic, partition, found[0], metadata=found[1])
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "group offsets stay unstable", retriable=True))

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Any:
        """Not modelled: the sinks of a simulation exist."""
        raise KafkaException(KafkaError(KafkaError._NOT_IMPLEMENTED, "list_topics"))

    def close(self) -> None:
        """Nothing to let go of."""


class SimKafka:
    """The model broker in the place of `connectors.kafka.client.Cluster`: it makes the clients."""

    bootstrap_servers = "sim:9092"
    config: tuple[tuple[str, Any], ...] = ()

    def __init__(self, world: World, broker: Broker) -> None:
        self._world = world
        self._broker = broker

    def producer(self, settings: Mapping[str, Any], fixed: Mapping[str, Any]) -> SimProducer:
        """A producer."""
        return SimProducer(self._world, self._broker, {**settings, **fixed})

    def consumer(self, settings: Mapping[str, Any], *, group: str = "microstream") -> SimConsumer:
        """A consumer of `group`."""
        return SimConsumer(self._world, self._broker, {**settings, "group.id": group})

    def setting(self, name: str, default: int) -> int:
        """Nothing is configured."""
        return default
