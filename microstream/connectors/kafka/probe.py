"""The driver's view of Kafka topics. Asked every few milliseconds: the questions of one call travel together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from confluent_kafka import (
    OFFSET_INVALID,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from microstream.clock import Clock, SystemClock
from microstream.connectors.kafka.client import Cluster, refused
from microstream.connectors.kafka.complaints import Complaints, explained, first_answer
from microstream.connectors.kafka.cursor import partition_of, place_of
from microstream.connectors.kafka.ending import Ending
from microstream.connectors.kafka.metadata import describe, is_in_process
from microstream.connectors.kafka.moments import moment_us
from microstream.connectors.protocol import Bounds
from microstream.errors import ConnectorError, UnreachableError

__all__ = ["KafkaProbe", "missing_topics"]

TIMEOUT_S = 10.0
EARLIEST: Any = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
LATEST: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]
UNKNOWN = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)


class KafkaProbe:
    """See `microstream.connectors.protocol.Probe`.

    Ends are last stable offsets, by ListOffsets with read_committed: one request for all partitions, 0.5 ms, where a
    consumer's `get_watermark_offsets` asks for one partition at a time. `end` (see `moments`) is the last one.
    """

    def __init__(
        self, cluster: Cluster, topics: Sequence[str], *, end: str | None = None, clock: Clock | None = None
    ) -> None:
        self._cluster = cluster
        self._topics = tuple(topics)
        self._clock = clock or SystemClock()
        self._opened_us = self._clock.now_us()
        self._ending = None if end is None else Ending(time_us=moment_us(end, self._opened_us))
        self._complaints = Complaints()
        self._admin = cluster.admin(self._complaints)
        self._in_process: bool | None = None
        self._known: tuple[TopicPartition, ...] = ()
        self._ids: dict[str, str] = {}

    def start_offsets(self, start: str) -> Mapping[str, int]:
        """First offsets by a moment, for all partitions there are; the end where nothing is that late."""
        time_us, bounds = moment_us(start, self._opened_us), self.bounds()
        if time_us is None:
            return {name: each.low if start == "earliest" else each.end for name, each in bounds.items()}
        first = self.offsets_at(time_us, list(bounds))
        ends = {name: each.end for name, each in bounds.items()}
        return {name: end if (at := first[name]) is None else min(at, end) for name, end in ends.items()}

    def bounds(self) -> Mapping[str, Bounds]:
        """Low and last stable end of all partitions, new ones included. Raises ConnectorError when unreachable."""
        described = self._describe()
        # A local name: two threads may ask at once, and each must get an answer to its own question.
        known = self._known
        lows, ends = self._ask(known, EARLIEST), self._ask(known, LATEST)
        self._require_same(described)
        there = self._partitions(described)
        if there != known:
            _await_all(lows)
            _await_all(ends)
            self._known = there
            lows, ends = self._ask(there, EARLIEST), self._ask(there, LATEST)
        low, end = self._numbers(lows), self._numbers(ends)
        found = {name: Bounds(low=low[name], end=end[name]) for name in end}
        return found if self._ending is None else self._ended(found, self._ending)

    def _ended(self, found: Mapping[str, Bounds], ending: Ending) -> Mapping[str, Bounds]:
        """`found` up to the end of the source, as far as that is known."""
        open_ = ending.open(found)
        if open_ and ending.time_us is None:
            ending.close({name: found[name].end for name in open_})
        elif open_ and ending.time_us is not None:
            now_us, there = self._clock.now_us(), self.unstable_ends()
            # Asked last: what it does not find is not among the records counted before.
            first = self.offsets_at(ending.time_us, open_)
            ending.learn(first, {name: there[name] for name in open_ if name in there}, now_us=now_us)
        return ending.cut(found)

    def ends(self) -> Mapping[str, int] | None:
        """Last stable ends of the partitions known: one request, not three."""
        return None if self._ending or not self._known else self._numbers(self._ask(self._known, LATEST))

    def identity(self) -> Mapping[str, str]:
        """Topic -> id that changes when the topic is deleted and created again."""
        return {topic: str(self._result(future, topic).topic_id) for topic, future in self._describe().items()}

    def offsets_at(self, time_us: int, partitions: Sequence[str]) -> Mapping[str, int | None]:
        """First offset whose record time is at or after `time_us`; None where there is none."""
        time_ms = max(0, -(-time_us // 1000))
        spots = [TopicPartition(*place_of(partition)) for partition in partitions]
        asked = self._ask(spots, OffsetSpec.for_timestamp(time_ms))
        return {name: offset if offset >= 0 else None for name, offset in self._numbers(asked).items()}

    def close(self) -> None:
        """Let go of connections."""
        del self._admin

    def _describe(self) -> dict[str, Future[Any]]:
        self._complaints.forget()
        try:
            if self._in_process is None:
                self._in_process = is_in_process(first_answer(self._admin, self._complaints))
            if self._in_process:
                return describe(self._admin, self._topics)
        except KafkaException as problem:
            what = f"topic {', '.join(map(repr, self._topics))} cannot be reached"
            raise self._explained(problem, what) from problem
        asked: dict[str, Future[Any]] = self._admin.describe_topics(
            TopicCollection(list(self._topics)), request_timeout=TIMEOUT_S
        )
        return asked

    def unstable_ends(self) -> Mapping[str, int]:
        """Ends including the records of transactions that are still open."""
        asked = self._ask(self._known, LATEST, IsolationLevel.READ_UNCOMMITTED)
        return self._numbers(asked)

    def _partitions(self, described: Mapping[str, Future[Any]]) -> tuple[TopicPartition, ...]:
        return tuple(
            TopicPartition(topic, number)
            for topic, future in described.items()
            for number in sorted(part.id for part in self._result(future, topic).partitions)
        )

    def _require_same(self, described: Mapping[str, Future[Any]]) -> None:
        """Raise ConnectorError if a topic is no longer the one that was seen first: its offsets mean something else."""
        for topic, future in described.items():
            now = str(self._result(future, topic).topic_id)
            known = self._ids.setdefault(topic, now)
            if known != now:
                raise ConnectorError(
                    f"topic {topic!r} at {self._cluster.bootstrap_servers} was deleted and created again while it was "
                    f"read (its id was {known}, now {now}). Start the query with a new checkpoint.",
                    topic=topic,
                )

    def _ask(
        self, spots: Sequence[TopicPartition], spec: Any, level: IsolationLevel = IsolationLevel.READ_COMMITTED
    ) -> dict[TopicPartition, Future[Any]]:
        if not spots:
            return {}
        asked: dict[TopicPartition, Future[Any]] = self._admin.list_offsets(
            dict.fromkeys(spots, spec),
            isolation_level=level,
            request_timeout=TIMEOUT_S,
        )
        return asked

    def _numbers(self, asked: Mapping[TopicPartition, Future[Any]]) -> dict[str, int]:
        return {
            partition_of(spot.topic, spot.partition): self._offset(self._result(future, spot.topic), spot.topic)
            for spot, future in asked.items()
        }

    def _offset(self, answer: Any, topic: str) -> int:
        """The offset of an answer; a broker that dies in the middle of it leaves "invalid" there, and no error."""
        if answer.offset == OFFSET_INVALID:
            raise UnreachableError(
                f"topic {topic!r} cannot be reached at {self._cluster.bootstrap_servers}: a broker went away. Is the "
                "cluster up and reachable from this machine?"
            )
        return int(answer.offset)

    def _result(self, future: Future[Any], topic: str) -> Any:
        try:
            return future.result(TIMEOUT_S + 1)
        except KafkaException as problem:
            if problem.args[0].code() in UNKNOWN:
                raise missing_topics(self._cluster, self._admin, (topic,)) from problem
            error = self._explained(problem, f"topic {topic!r} cannot be reached")
            self._renew()
            raise error from problem
        except TimeoutError as problem:
            self._renew()
            raise UnreachableError(
                f"topic {topic!r} at {self._cluster.bootstrap_servers}: no answer within {TIMEOUT_S:.0f} s. Is the "
                "cluster up and reachable from this machine?"
            ) from problem

    def _explained(self, problem: KafkaException, what: str) -> ConnectorError:
        self._admin.poll(0)
        return explained(problem, what, self._cluster, self._complaints)

    def _renew(self) -> None:
        """Ask with a new client next: the old one keeps leader epochs that a restarted broker made stale."""
        self._admin = self._cluster.admin(self._complaints)


def missing_topics(cluster: Cluster, admin: Any, wanted: Sequence[str]) -> ConnectorError:
    """The error for topics that are not there; it names those that are."""
    try:
        there = sorted(topic for topic in admin.list_topics(timeout=TIMEOUT_S).topics if not topic.startswith("__"))
    except KafkaException as problem:
        return refused(problem, f"topic {', '.join(map(repr, wanted))} cannot be reached", cluster)
    names = ", ".join(there[:20]) + (", …" if len(there) > 20 else "")
    return ConnectorError(
        f"{cluster.bootstrap_servers} has no topic {', '.join(map(repr, wanted))}. Topics there: {names or 'none'}. "
        "Create it, or correct the name.",
        missing=tuple(wanted),
        topics=tuple(there),
    )


def _await_all(asked: Mapping[TopicPartition, Future[Any]]) -> None:
    """Wait for answers that are no longer wanted."""
    for future in asked.values():
        with suppress(TimeoutError):
            future.exception(TIMEOUT_S + 1)
