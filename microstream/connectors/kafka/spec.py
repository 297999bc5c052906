"""Kafka topics as plans name them: frozen values that can be compared, printed, shipped and opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import pyarrow as pa

from microstream.connectors.kafka.attributes import DETAILS, HEADERS
from microstream.connectors.kafka.client import Cluster
from microstream.connectors.kafka.cursor import partition_of
from microstream.connectors.kafka.eager import EagerWriter
from microstream.connectors.kafka.letters import ASIDE, LETTERS, TIME, letters_of
from microstream.connectors.kafka.moments import check_order, moment
from microstream.connectors.kafka.outbox import OUTSIDE, RecordRules
from microstream.connectors.kafka.probe import KafkaProbe
from microstream.connectors.kafka.reader import KafkaReader, ReadRules
from microstream.connectors.kafka.rows import BadRecords, Layout
from microstream.connectors.kafka.sink_probe import KafkaSinkProbe
from microstream.connectors.kafka.writer import TransactionalWriter
from microstream.connectors.protocol import BadRecord, Probe, Reader, SinkProbe, Writer
from microstream.errors import PlanError
from microstream.formats.choice import check_format, check_writable, decoder_of, encoder_of
from microstream.formats.keys import check_key
from microstream.formats.registry import Registry
from microstream.plan.specs import DeadLetters, OutputMode, Publication

__all__ = ["KafkaSink", "KafkaSource"]

EAGER = "at least once: rows come as soon as they are computed, again if a batch is tried again"

Config = tuple[tuple[str, str | int | float | bool], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSource:
    """Records of `topics`, read without a consumer group: offsets are kept in the checkpoint.

    Parameters
    ----------
    topics
        At least one; a partition is named "topic-number".
    bootstrap_servers
        "host:port", several separated by commas.
    format
        One of `microstream.formats.choice.FORMATS`.
    registry
        Of the schemas, for formats that have one.
    start
        Where a query begins that has no checkpoint yet, by a moment: "earliest", "latest", a record time, or a duration
        with a minus before the query starts. None: "earliest" where `end` is "latest", else the trigger decides.
    end
        The moment at which the source finishes: "latest" is what is there when it is opened, a time is before the first
        record of that time or a later one, or else when the clock has passed it. None: never.
    metadata
        Columns of `ATTRIBUTES` that the source has besides those of the value; with "_key" tombstones are rows.
    required
        Columns that must not be null in a record, although a tombstone's row holds null there.
    config
        Settings of librdkafka as (name, value); what microstream decides cannot be set.
    on_bad_record
        "fail": BadRecordError; "drop": counted and logged; "dead_letter": counted and kept.
    dead_letter
        The topic of the same cluster that keeps bad records.
    skip
        (partition, offset) of records that are passed over, for records that stopped the query once. A partition is a
        name, or its number where there is one topic.
    on_data_loss
        "fail": OffsetExpiredError when retention overtook the query; "skip": go on with the oldest record.
    wait_us
        How long a reader waits in microseconds for a cluster that does not answer before it raises ConnectorError.

    Raises
    ------
    PlanError
        An argument has a value that is not possible.
    """

    topics: tuple[str, ...]
    bootstrap_servers: str
    format: str = "json"
    registry: Registry | None = None
    start: str | datetime | None = None
    end: str | datetime | None = None
    metadata: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    config: Config = ()
    on_bad_record: Literal["fail", "drop", "dead_letter"] = "fail"
    dead_letter: str | None = None
    skip: tuple[tuple[str | int, int], ...] = ()
    on_data_loss: Literal["fail", "skip"] = "fail"
    wait_us: int = 60_000_000

    def __post_init__(self) -> None:
        if not self.topics:
            raise PlanError("read_kafka: name at least one topic.")
        if len(set(self.topics)) < len(self.topics):
            raise PlanError(f"read_kafka: a topic is named twice in {', '.join(self.topics)}.")
        check_format("read_kafka", self.format, self.registry)
        self._fix_moments()
        object.__setattr__(self, "skip", tuple(_named_record(record, self.topics) for record in self.skip))
        _require_one_of("read_kafka", "on_bad_record", self.on_bad_record, ("fail", "drop", "dead_letter"))
        self._check_dead_letter()
        _require_one_of("read_kafka", "on_data_loss", self.on_data_loss, ("fail", "skip"))
        self.cluster  # noqa: B018  (refuses settings that are not for users)

    @property
    def kind(self) -> str:
        """ "kafka"."""
        return "kafka"

    @property
    def target(self) -> str:
        """The topics, joined by commas."""
        return ",".join(self.topics)

    @property
    def finite(self) -> bool:
        """Whether `end` is set."""
        return self.end is not None

    @property
    def cluster(self) -> Cluster:
        """Where the topics are."""
        return Cluster(bootstrap_servers=self.bootstrap_servers, config=self.config)

    @property
    def dead_letters(self) -> DeadLetters | None:
        """Where bad records are kept."""
        if self.dead_letter is None:
            return None
        sink = KafkaSink(
            topic=self.dead_letter,
            bootstrap_servers=self.bootstrap_servers,
            format="raw",
            config=self.config,
            aside=ASIDE,
        )
        return DeadLetters(sink=sink, schema=LETTERS, event_time=TIME)

    def letters(self, source: str, bad: Sequence[BadRecord]) -> pa.Table:
        """Bad records as rows of `dead_letters.schema`."""
        return letters_of(source, bad)

    def _fix_moments(self) -> None:
        """In one form, so that equal sources compare equal."""
        start, end = self.start, self.end
        if start is not None:
            start = moment("read_kafka(start=)", start, ("earliest", "latest"))
        if end is not None:
            end = moment("read_kafka(end=)", end, ("latest",))
        check_order(start, end)
        if start is None and end == "latest":
            start = "earliest"  # from the latest record to the latest record there is nothing
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "end", end)

    def _check_dead_letter(self) -> None:
        if (self.on_bad_record == "dead_letter") != (self.dead_letter is not None):
            raise PlanError(
                f"read_kafka(on_bad_record={self.on_bad_record!r}, dead_letter={self.dead_letter!r}): one needs the "
                "other, as in on_bad_record='dead_letter', dead_letter='bad-bids'."
            )
        if self.dead_letter in self.topics:
            raise PlanError(
                f"read_kafka(dead_letter={self.dead_letter!r}): the query would read its own dead letters. Name "
                "another topic."
            )

    def open_probe(self) -> Probe:
        """The driver's view."""
        return KafkaProbe(self.cluster, self.topics, end=None if self.end is None else str(self.end))

    def open_reader(self, *, name: str, schema: pa.Schema, event_time: str | None, max_ahead_us: int) -> Reader:
        """A worker's view, for one lane; `schema` may be a subset of the columns declared."""
        layout = Layout(schema=schema, event_time=event_time, tombstones="_key" in self.metadata)
        rules = ReadRules(
            bad=BadRecords(
                action=self.on_bad_record, skip=frozenset((str(partition), offset) for partition, offset in self.skip)
            ),
            on_data_loss=self.on_data_loss,
            wait_us=self.wait_us,
            details=tuple(DETAILS) if self.dead_letter else layout.details,
        )
        value = layout.value_schema(self.required)
        of_value = event_time if event_time in value.names else None
        decoder = decoder_of(self.format, value, of_value, self.registry)
        return KafkaReader(self.cluster, rules, decoder, layout, name=name, max_ahead_us=max_ahead_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSink:
    """Rows as records of `topic`; the record's time is the event time.

    A column `_headers` becomes the record's headers and a column `_key` its key, unless `key` names others; neither is
    part of the value.

    Parameters
    ----------
    topic
        Must exist.
    bootstrap_servers
        "host:port", several separated by commas.
    key
        Column or columns that make the record key, see `microstream.formats.keys`, or None. Equal keys go to one
        partition.
    delivery
        "exactly_once": one transaction per batch and lane, read with isolation.level=read_committed. Needs the ACLs
        READ on groups `ms-*`, READ and WRITE on the topic and WRITE on transactional ids `ms-*`. "at_least_once": no
        transactions, and not after the manifest but as soon as computed; rows of attempts that were given up remain.
    format
        One of `microstream.formats.choice.FORMATS`.
    registry
        Of the schemas, for formats that have one.
    config
        Settings of librdkafka as (name, value); what microstream decides cannot be set.
    aside
        Columns that are no part of the value.
    wait_us
        How long in microseconds one step of a publication may take before it is given up and tried again.

    Raises
    ------
    PlanError
        An argument has a value that is not possible.
    """

    topic: str
    bootstrap_servers: str
    key: str | tuple[str, ...] | None = None
    delivery: Literal["exactly_once", "at_least_once"] = "exactly_once"
    format: str = "json"
    registry: Registry | None = None
    config: Config = ()
    aside: tuple[str, ...] = OUTSIDE
    wait_us: int = 30_000_000

    def __post_init__(self) -> None:
        check_format("to_kafka", self.format, self.registry)
        _require_one_of("to_kafka", "delivery", self.delivery, ("exactly_once", "at_least_once"))
        self.cluster  # noqa: B018  (refuses settings that are not for users)

    @property
    def kind(self) -> str:
        """ "kafka"."""
        return "kafka"

    @property
    def target(self) -> str:
        """The topic."""
        return self.topic

    @property
    def durable(self) -> bool:
        """True: records outlive the process."""
        return True

    @property
    def guarantee(self) -> str:
        """As `explain()` prints it."""
        return "exactly once" if self.delivery == "exactly_once" else EAGER

    @property
    def publication(self) -> Publication:
        """Lanes publish by themselves, batch by batch."""
        return Publication()

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns of `key`."""
        return () if self.key is None else (self.key,) if isinstance(self.key, str) else self.key

    @property
    def cluster(self) -> Cluster:
        """Where the topic is."""
        return Cluster(bootstrap_servers=self.bootstrap_servers, config=self.config)

    def check(self, schema: pa.Schema) -> None:
        """Raise PlanError where rows of `schema` cannot be written."""
        for column in self.key_columns:
            if column not in schema.names:
                raise PlanError.unknown_column("to_kafka(key=)", column, schema.names)
        key = self.key_columns or tuple({"_key"} & set(schema.names))
        if key:
            check_key(pa.schema([schema.field(column) for column in key]))
        if "_headers" in schema.names and schema.field("_headers").type != HEADERS:
            raise PlanError(
                f"to_kafka: the column '_headers' has type {schema.field('_headers').type}, but becomes the headers of "
                f"the record and must be {HEADERS}. Rename the column, or drop it."
            )
        check_writable("to_kafka", self.format, self._value_schema(schema))

    def check_mode(self, mode: OutputMode) -> None:
        """Rows that replace others need a key, and that none of an earlier attempt comes after them."""
        if mode == "append":
            return
        if self.delivery == "at_least_once":
            raise PlanError(
                f"to_kafka(output_mode={mode!r}, delivery='at_least_once'): a record of an attempt that was given up "
                "could come last, with an old value. Use delivery='exactly_once'."
            )
        if mode == "update" and not self.key_columns:
            raise PlanError(
                f"to_kafka({self.topic!r}): in output mode 'update' a record replaces the one before it of the same "
                "key. Name the columns that identify a row, as in key='auction'."
            )

    def _value_schema(self, schema: pa.Schema) -> pa.Schema:
        return pa.schema([field for field in schema if field.name not in self.aside])

    def open_probe(self) -> SinkProbe:
        """The driver's view."""
        return KafkaSinkProbe(self.cluster, self.topic)

    def open_writer(self, *, job: str, sink: str, lane: int, schema: pa.Schema) -> Writer:
        """A worker's view, for one lane."""
        wait_s = self.wait_us / 1e6
        value = self._value_schema(schema)
        together = not self.key_columns and len(value) == len(schema)
        encoder = encoder_of(self.format, value, topic=self.topic, registry=self.registry, together=together)
        rules = RecordRules(
            cluster=self.cluster,
            topic=self.topic,
            key=self.key_columns,
            encoder=encoder,
            wait_s=wait_s,
            aside=self.aside,
            sink=sink,
        )
        if self.delivery == "at_least_once":
            return EagerWriter(rules, sink=sink, wait_s=wait_s)
        return TransactionalWriter(rules, job=job, sink=sink, lane=lane, wait_s=wait_s)


def _named_record(record: object, topics: tuple[str, ...]) -> tuple[str, int]:
    """(partition, offset) of `skip=`, the partition by name."""
    match record:
        case (int(number), int(offset)) if len(topics) == 1 and number >= 0 and offset >= 0:
            return partition_of(topics[0], number), offset
        case (str(partition), int(offset)) if offset >= 0:
            topic, _, digits = partition.rpartition("-")
            if topic in topics and digits.isdigit():
                return partition, offset
    raise PlanError(
        f"read_kafka(skip=): {record!r} is no record of {', '.join(topics)}. Write (partition, offset), as in "
        f"skip=[({partition_of(topics[0], 0)!r}, 1234)]."
    )


def _require_one_of(where: str, argument: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        choices = ", ".join(repr(choice) for choice in allowed)
        raise PlanError(f"{where}({argument}={value!r}): must be one of {choices}.")
