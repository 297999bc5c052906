"""A model of a Kafka broker: logs, transactions, fencing, consumer groups; each operation happens at one
instant.

What exactly-once rests on is modelled as brokers 2.5 and newer do it: `init_transactions` raises the epoch of
a transactional id and aborts what its predecessor left open; a transaction decided to commit becomes visible
a little later; readers of committed data stop at the first undecided transaction; group offsets sent with a
transaction count when it commits and are "unstable" before; an open transaction that grows too old is aborted
and its producer fenced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from microstream.testing.simulation.kernel import World

__all__ = ["Broker", "BrokerError", "Entry", "Fenced", "Log", "NotStable", "Unavailable"]

GroupKey = tuple[str, str, int]
"""(group, topic, partition)."""


class BrokerError(Exception):
    """The broker refuses."""


class Fenced(BrokerError):
    """A newer producer has this transactional id."""


class Unavailable(BrokerError):
    """No leader at the moment."""


class NotStable(BrokerError):
    """The group offset is part of a transaction that is not decided yet: ask again."""


class Fate(Enum):
    """What became of a transaction."""

    OPEN = "open"
    DECIDED = "decided"
    COMMITTED = "committed"
    ABORTED = "aborted"


@dataclass(slots=True, eq=False)
class Transaction:
    """Records and offsets that count together or not at all."""

    owner: str
    fate: Fate = Fate.OPEN
    logs: list[Log] = field(default_factory=list)
    offsets: dict[GroupKey, tuple[int, str]] = field(default_factory=dict)

    @property
    def pending(self) -> bool:
        """Whether readers of committed data still wait for it."""
        return self.fate in (Fate.OPEN, Fate.DECIDED)


@dataclass(slots=True, kw_only=True)
class Entry:
    """One offset of a log: a record, or (`control`) the end mark of a transaction, which no reader ever gets."""

    key: bytes | None = None
    value: bytes | None = None
    timestamp_ms: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()
    transaction: Transaction | None = None
    control: bool = False


@dataclass(slots=True, eq=False)
class Log:
    """One partition."""

    topic: str
    partition: int
    entries: list[Entry] = field(default_factory=list)
    low: int = 0

    @property
    def stable_end(self) -> int:
        """The last stable offset: the first of an undecided transaction, or the end."""
        for offset in range(self.low, len(self.entries)):
            transaction = self.entries[offset].transaction
            if transaction is not None and transaction.pending:
                return offset
        return len(self.entries)

    def committed(self, start: int, end: int) -> list[tuple[int, Entry]]:
        """Records in `[start, end)` that a read_committed reader gets, with their offsets."""
        start = max(start, self.low)
        return [
            (offset, entry)
            for offset, entry in enumerate(self.entries[start : min(end, self.stable_end)], start)
            if not entry.control and (entry.transaction is None or entry.transaction.fate is Fate.COMMITTED)
        ]


@dataclass(slots=True)
class _Producer:
    epoch: int = -1
    open: Transaction | None = None
    last: Transaction | None = None


class Broker:
    """All topics, transactions and groups. Methods take effect at once; clients bring delay and loss.

    Parameters
    ----------
    world
        Brings time and choices.
    decision_s
        How long, at most, a transaction stays decided but invisible.
    timeout_s
        Age at which an open transaction is aborted and its producer fenced (transaction.timeout.ms).
    """

    def __init__(self, world: World, *, decision_s: float = 0.05, timeout_s: float = 60.0) -> None:
        self._world = world
        self._decision_s = decision_s
        self._timeout_s = timeout_s
        self._topics: dict[str, list[Log]] = {}
        self._producers: dict[str, _Producer] = {}
        self._offsets: dict[GroupKey, tuple[int, str]] = {}
        self._down_until_s = 0.0

    # -- topics ------------------------------------------------------------------------------------

    def create_topic(self, topic: str, partitions: int) -> None:
        """Add a topic, or partitions to one."""
        logs = self._topics.setdefault(topic, [])
        logs.extend(Log(topic, number) for number in range(len(logs), partitions))

    def topics(self) -> Mapping[str, int]:
        """Topic -> number of partitions."""
        self._require_up()
        return {topic: len(logs) for topic, logs in self._topics.items()}

    def partitions(self, topic: str) -> int:
        """Number of partitions, from a client's cached metadata: no call."""
        return len(self._topics[topic])

    def log(self, topic: str, partition: int) -> Log:
        """One partition; BrokerError if there is none."""
        self._require_up()
        try:
            return self._topics[topic][partition]
        except (KeyError, IndexError):
            raise BrokerError(f"{topic}-{partition} is unknown") from None

    def go_down(self, seconds: float) -> None:
        """Refuse every call for a while."""
        self._down_until_s = self._world.loop.time() + seconds
        self._world.note(None, "kafka.down", f"{seconds:.1f} s")

    def _require_up(self) -> None:
        if self._world.loop.time() < self._down_until_s:
            raise Unavailable("no leader")

    # -- producing ---------------------------------------------------------------------------------

    def append(self, topic: str, partition: int, entries: Sequence[Entry]) -> int:
        """Add records outside of any transaction; the offset of the first."""
        log = self.log(topic, partition)
        start = len(log.entries)
        log.entries.extend(entries)
        return start

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Lose the records below offset `before`, as retention does."""
        log = self.log(topic, partition)
        log.low = max(log.low, before)

    def init_transactions(self, owner: str) -> int:
        """The epoch of a new producer for transactional id `owner`; what an older one left open is over."""
        self._require_up()
        producer = self._producers.setdefault(owner, _Producer())
        if producer.open is not None:
            self._end(producer, commit=producer.open.fate is Fate.DECIDED)
        producer.epoch += 1
        producer.last = None
        return producer.epoch

    def append_in(self, owner: str, epoch: int, topic: str, partition: int, entries: Sequence[Entry]) -> int:
        """Add records to the open transaction of `owner` (opening it); Fenced if `epoch` is not the newest."""
        log = self.log(topic, partition)
        transaction = self._join(owner, epoch)
        if log not in transaction.logs:
            transaction.logs.append(log)
        start = len(log.entries)
        for entry in entries:
            entry.transaction = transaction
            log.entries.append(entry)
        return start

    def send_offsets(self, owner: str, epoch: int, offsets: Mapping[GroupKey, tuple[int, str]]) -> None:
        """Make group offsets part of the open transaction of `owner`."""
        self._require_up()
        self._join(owner, epoch).offsets.update(offsets)

    def end(self, owner: str, epoch: int, *, commit: bool) -> None:
        """Decide the open transaction; a repeated call gets the first one's answer."""
        self._require_up()
        producer = self._current(owner, epoch)
        transaction = producer.open or producer.last
        if transaction is None:
            raise BrokerError(f"{owner} has no transaction")
        if transaction.fate is not Fate.OPEN:
            if commit is (transaction.fate is Fate.ABORTED):
                raise BrokerError(f"the transaction of {owner} is {transaction.fate.value}")
            return
        if not commit:
            self._end(producer, commit=False)
            return
        transaction.fate = Fate.DECIDED
        delay_s = self._world.random.uniform(0.0, self._decision_s)
        self._world.loop.call_later(delay_s, self._settle, producer, transaction, context=self._world.background)

    def _settle(self, producer: _Producer, transaction: Transaction) -> None:
        if producer.open is transaction:
            self._end(producer, commit=True)

    def _current(self, owner: str, epoch: int) -> _Producer:
        producer = self._producers.setdefault(owner, _Producer())
        if epoch != producer.epoch:
            raise Fenced(f"{owner} has epoch {producer.epoch}, not {epoch}")
        return producer

    def _join(self, owner: str, epoch: int) -> Transaction:
        producer = self._current(owner, epoch)
        if producer.open is not None and producer.open.fate is Fate.DECIDED:
            self._end(producer, commit=True)
        if producer.open is None:
            producer.open = Transaction(owner)
            self._world.loop.call_later(
                self._timeout_s, self._expire, producer, producer.open, context=self._world.background
            )
        return producer.open

    def _expire(self, producer: _Producer, transaction: Transaction) -> None:
        if producer.open is transaction and transaction.fate is Fate.OPEN:
            self._end(producer, commit=False)
            producer.epoch += 1
            self._world.note(None, f"kafka.timeout {transaction.owner}", "aborted")

    def _end(self, producer: _Producer, *, commit: bool) -> None:
        transaction = producer.open
        assert transaction is not None
        transaction.fate = Fate.COMMITTED if commit else Fate.ABORTED
        for log in transaction.logs:
            log.entries.append(Entry(control=True))
        if commit:
            self._offsets.update(transaction.offsets)
        producer.open, producer.last = None, transaction

    # -- groups ------------------------------------------------------------------------------------

    def committed_offset(self, key: GroupKey) -> tuple[int, str] | None:
        """(offset, metadata) of a group; None if it has none. NotStable while a transaction holds a newer
        one.
        """
        self._require_up()
        for producer in self._producers.values():
            if producer.open is not None and key in producer.open.offsets:
                raise NotStable(f"{key} is in a transaction of {producer.open.owner}")
        return self._offsets.get(key)
