"""A worker's view of Kafka topics: one consumer, assigned by hand, that goes on where the last batch ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from microstream.connectors.kafka.attributes import DETAILS
from microstream.connectors.kafka.client import LASTING, Cluster, refused, said
from microstream.connectors.kafka.complaints import Complaints
from microstream.connectors.kafka.cursor import Cursor, place_of
from microstream.connectors.kafka.rows import BadRecords, Layout, Taken, rows_of
from microstream.connectors.protocol import Range, Read
from microstream.errors import ConnectorError, OffsetExpiredError, UnreachableError
from microstream.formats.protocol import Decoder

__all__ = ["KafkaReader", "ReadRules"]

log = logging.getLogger("microstream.kafka")

MESSAGES = 500
"""Messages per `consume`: larger calls wait longer while the fetch thread refills the queue (1.45 against 1.04 M/s)."""

POLL_S = 0.005
"""`consume` waits for all the messages it was asked for, or this long: a range that ends in a gap costs one."""

WARN_US = 5_000_000

FETCH = {
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 10,  # the end of a partition is reported after an empty fetch, which takes this long
    "fetch.queue.backoff.ms": 5,  # default 1000: after a full queue the reader would starve (0.4 against 1.4 M/s)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRules:
    """What to do about bad records, lost offsets and a broker that does not answer for `wait_us`."""

    bad: BadRecords
    on_data_loss: Literal["fail", "skip"]
    wait_us: int
    details: tuple[str, ...] = ()
    """What is kept of every record beside its value: names of `DETAILS`."""


class KafkaReader:
    """See `microstream.connectors.protocol.Reader`; for one lane, used by one thread at a time."""

    def __init__(
        self, cluster: Cluster, rules: ReadRules, decoder: Decoder, layout: Layout, *, name: str, max_ahead_us: int
    ) -> None:
        self._cluster = cluster
        self._rules = rules
        self._decoder = decoder
        self._layout = layout
        self._details = {name: DETAILS[name] for name in rules.details}
        self._name = name
        self._max_ahead_us = max_ahead_us
        self._consumer: Consumer | None = None
        self._cursors: dict[tuple[str, int], Cursor] = {}
        self._topics: set[str] = set()
        self._trouble = ""
        self._complaints = Complaints()

    def read(self, ranges: Sequence[Range], *, batch_time_us: int) -> Read:
        """All rows of `ranges`. Raises BadRecordError, OffsetExpiredError, ConnectorError."""
        cursors = [self._cursor(wanted) for wanted in ranges]
        try:
            self._receive_all(ranges, cursors)
        except KafkaException as problem:
            raise refused(problem, f"source {self._name!r} cannot be read", self._cluster) from problem
        taken = []
        for wanted, cursor in zip(ranges, cursors, strict=True):
            offsets, values, details = cursor.take(wanted.end)
            taken.append(Taken(range=wanted, offsets=offsets, values=values, details=details))
        latest_us = batch_time_us + self._max_ahead_us
        return rows_of(taken, self._decoder, self._layout, latest_us=latest_us, policy=self._rules.bad)

    def close(self) -> None:
        """Let go of connections."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
        self._cursors.clear()
        self._topics.clear()

    def _cursor(self, wanted: Range) -> Cursor:
        """The cursor of the range's partition, sent to its start unless it is there already."""
        place = place_of(wanted.partition)
        cursor = self._cursors.get(place)
        if cursor is None:
            cursor = self._cursors[place] = Cursor(topic=place[0], number=place[1])
            self._topics.add(place[0])
        if cursor.due != wanted.start:
            self._halt(cursor)
            cursor.restart(wanted.start)
        return cursor

    def _receive_all(self, ranges: Sequence[Range], cursors: Sequence[Cursor]) -> None:
        ends = {(c.topic, c.number): r.end for r, c in zip(ranges, cursors, strict=True) if not c.has(r.end)}
        for place in ends:
            self._fetch(self._cursors[place])
        self._complaints.forget()
        idle_us = 0
        while ends:
            if self._receive(ends):
                idle_us = 0
            else:
                if lasting := self._complaints.lasting:
                    raise refused(lasting, f"source {self._name!r} cannot be read", self._cluster)
                idle_us += int(POLL_S * 1_000_000)
                self._complain(idle_us, ends)
            for place in [place for place, end in ends.items() if self._cursors[place].has(end)]:
                del ends[place]

    def _receive(self, ends: dict[tuple[str, int], int]) -> bool:
        """Take in what has arrived; True if it was a record or an end of partition."""
        missing = sum(end - self._cursors[place].position for place, end in ends.items())
        messages = self._open().consume(min(missing, MESSAGES), POLL_S)
        progress = False
        for place, run in self._runs(messages):
            if any(map(_error, run)):
                run = [message for message in run if not self._note(message, ends)]
                progress = progress or not self._trouble
            if run:
                progress = True
                self._keep(place, run, ends)
        return progress

    def _runs(self, messages: Sequence[Message]) -> Iterator[tuple[tuple[str, int], list[Message]]]:
        """Neighbours of one partition. Making a tuple per message costs a quarter of the time of reading."""
        if len(self._topics) > 1:
            for place, group in groupby(messages, _place):
                yield place, list(group)
        else:
            [topic] = self._topics
            for number, group in groupby(messages, _number):
                yield (topic, number), list(group)

    def _keep(self, place: tuple[str, int], run: list[Message], ends: dict[tuple[str, int], int]) -> None:
        cursor = self._cursors[place]
        offsets = _offsets(run)
        if self._details:
            details = {name: list(map(detail, run)) for name, detail in self._details.items()}
            cursor.receive(offsets, list(map(_value, run)), details)
        else:
            cursor.receive(offsets, list(map(_value, run)))
        self._trouble = ""
        if place not in ends and cursor.is_full():
            self._halt(cursor)

    def _note(self, message: Message, ends: dict[tuple[str, int], int]) -> bool:
        """Whether `message` is no record but a report; what it says is noted."""
        error = message.error()
        if error is None:
            return False
        place = _place(message)
        if error.code() == KafkaError._PARTITION_EOF:
            cursor = self._cursors[place]
            cursor.eof = max(cursor.eof, message.offset() or 0)
            self._trouble = ""
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._recover(self._cursors[place], ends.get(place))
        elif error.code() in LASTING:
            raise refused(error, f"source {self._name!r} cannot be read", self._cluster)
        else:
            self._trouble = said(error)
        return True

    def _recover(self, cursor: Cursor, end: int | None) -> None:
        """The broker does not have the position of `cursor`: find out why, and go on where that is allowed."""
        wanted, partition = cursor.position, f"{cursor.topic}-{cursor.number}"
        self._halt(cursor)
        if end is None:
            return
        spot = TopicPartition(cursor.topic, cursor.number)
        try:
            low, high = self._open().get_watermark_offsets(spot, timeout=10)
        except KafkaException as problem:
            self._trouble = said(problem.args[0])
            self._fetch(cursor)
            return
        if wanted > high:
            raise ConnectorError(
                f"source {self._name!r}, {partition}: offset {wanted} is beyond the end {high}. The topic was "
                "re-created or has lost records; start the query with a new checkpoint."
            )
        if wanted < low:
            self._accept_loss(partition, wanted, low)
            cursor.skip_to(low)
        if not cursor.has(end):
            self._fetch(cursor)

    def _accept_loss(self, partition: str, wanted: int, low: int) -> None:
        if self._rules.on_data_loss == "fail":
            raise OffsetExpiredError.of(self._name, partition, wanted, low)
        log.warning("%s: offsets %d to %d have expired and are skipped", partition, wanted, low - 1)

    def _complain(self, idle_us: int, ends: dict[tuple[str, int], int]) -> None:
        waiting = ", ".join(f"{topic}-{number} (to {end})" for (topic, number), end in ends.items())
        found = self._trouble or said(self._complaints.newest or "")
        trouble = f": {found}" if found else ""
        if idle_us >= self._rules.wait_us:
            self.close()
            raise UnreachableError(
                f"source {self._name!r}: nothing came from {self._cluster.bootstrap_servers} for "
                f"{idle_us / 1e6:.0f} s, waiting for {waiting}{trouble}. Is the cluster up?"
            )
        if idle_us % WARN_US == 0:
            log.warning("nothing from Kafka for %d s, waiting for %s%s", idle_us // 1_000_000, waiting, trouble)

    def _fetch(self, cursor: Cursor) -> None:
        if not cursor.fetching:
            spot = TopicPartition(cursor.topic, cursor.number, cursor.position)
            self._open().incremental_assign([spot])
            cursor.fetching = True

    def _halt(self, cursor: Cursor) -> None:
        """Stop fetching a partition; its position is kept here, not in the client."""
        if cursor.fetching:
            self._open().incremental_unassign([TopicPartition(cursor.topic, cursor.number)])
            cursor.fetching = False

    def _open(self) -> Consumer:
        if self._consumer is None:
            self._consumer = self._cluster.consumer({**FETCH, "error_cb": self._complaints})
        return self._consumer


_number: Callable[[Message], Any] = Message.partition
_error: Callable[[Message], KafkaError | None] = Message.error
_offset: Callable[[Message], Any] = Message.offset
_value: Callable[[Message], Any] = Message.value


def _offsets(run: Sequence[Message]) -> Iterable[int]:
    """Asked for one by one only where some are missing: compacted, aborted, or the mark of a transaction."""
    first, last = run[0].offset() or 0, run[-1].offset() or 0
    return range(first, last + 1) if last - first == len(run) - 1 else map(_offset, run)


def _place(message: Message) -> tuple[str, int]:
    return message.topic(), message.partition()  # type: ignore[return-value]
