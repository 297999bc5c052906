"""What a connector implements. Offsets are ints, ends are exclusive, a partition is a string such as "bids-0".

A spec (plan/specs.py) opens these: the driver gets a `Probe` and a `SinkProbe`, the workers a `Reader` and a
`Writer`. Everything here is synchronous; the driver calls it off its loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from microstream.checkpoint.source_log import SourceLog
from microstream.errors import ConnectorError
from microstream.plan.specs import SinkSpec, SourceSpec

__all__ = [
    "BadRecord",
    "Bounds",
    "Confirmed",
    "KeepingSource",
    "MarkerAheadError",
    "Outgoing",
    "Probe",
    "Range",
    "RangeCount",
    "Read",
    "Reader",
    "RememberingSource",
    "SinkConnector",
    "SinkProbe",
    "SourceConnector",
    "Writer",
]


class MarkerAheadError(ConnectorError):
    """The sink has a newer batch than is known to be committed. Fields: marker, committed, sink, lane.

    Either another driver went on meanwhile (the head of the checkpoint has moved: FencedError), or the checkpoint was
    rolled back to an older copy (CheckpointError). Only the driver can tell.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Offsets `[start, end)` of one partition of one source."""

    source: str
    partition: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a partition holds now: `[low, end)`, `end` being the last *stable* offset."""

    low: int
    end: int
    finished: bool = False
    """Whether nothing will ever follow `end` (finite sources)."""
    first: int | None = None
    """Where a partition begins that the query did not know; None: at `low`, for nothing before it is missed."""
    clocked: bool = False
    """Whether `end` follows a clock: one that is behind, of another host, takes back nothing that was read."""
    max_step: int | None = None
    """At most so many offsets in one batch, whatever the limits; None: no bound of the source's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeCount:
    """What one range of a `Read` gave: good rows, bad records, tombstones, and bytes of all of them."""

    partition: str
    start: int
    end: int
    rows: int
    bad: int
    tombstones: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRecord:
    """A record that cannot be decoded, and why: everything it takes to keep it elsewhere.

    `key`, `time_us` and `headers` are None where the record has none, or the reader was not asked to keep them.
    """

    partition: str
    offset: int
    reason: str
    value: bytes | None
    key: bytes | None = None
    time_us: int | None = None
    headers: tuple[tuple[str, bytes | None], ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Rows of some ranges: `table` (the source's schema), range by range, in offset order within a range.

    `counts[i]` describes range i and `counts[i].rows` of the table are its; `offsets[k]` is the offset of row k.
    """

    table: pa.Table
    offsets: npt.NDArray[np.int64]
    counts: tuple[RangeCount, ...]
    bad: tuple[BadRecord, ...] = ()
    """Records that were passed over because they cannot be decoded, in the order of `counts` and offsets."""


class Probe(Protocol):
    """The driver's view of a source: partitions and offsets, never rows."""

    def start_offsets(self, start: str) -> Mapping[str, int]:
        """Offsets for a query that starts at "earliest", "latest", or as the `start` of its spec says."""
        ...

    def bounds(self) -> Mapping[str, Bounds]:
        """Low and last stable end of all partitions, new ones included. Raises ConnectorError when unreachable."""
        ...

    def ends(self) -> Mapping[str, int] | None:
        """Ends as `bounds` gives them, of the partitions it found last; None where asking for all costs no more."""
        ...

    def identity(self) -> Mapping[str, str]:
        """Topic -> id that changes when the topic is deleted and created again ("" where unknown)."""
        ...

    def offsets_at(self, time_us: int, partitions: Sequence[str]) -> Mapping[str, int | None]:
        """First offset at or after record time `time_us`; None where there is none (or the source cannot tell)."""
        ...

    def unstable_ends(self) -> Mapping[str, int]:
        """Ends including records that cannot be read yet (of open transactions); asked before a partition is idle."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Reader(Protocol):
    """A worker's view of a source: reads ranges, keeps its position between batches.

    Reading the same range again gives the same rows. `batch_time_us` is for `max_ahead`: an event time further
    ahead is a bad record.
    """

    def read(self, ranges: Sequence[Range], *, batch_time_us: int) -> Read:
        """All rows of `ranges`. Raises BadRecordError, OffsetExpiredError, ConnectorError."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class SourceConnector(SourceSpec, Protocol):
    """A source spec that can be opened. `schema`, `event_time`, `max_ahead_us` are those of the Source node."""

    def open_probe(self) -> Probe:
        """The driver's view."""
        ...

    def open_reader(self, *, name: str, schema: pa.Schema, event_time: str | None, max_ahead_us: int) -> Reader:
        """A worker's view, for one lane; `schema` may be a subset of the columns declared."""
        ...


@runtime_checkable
class RememberingSource(Protocol):
    """A source spec whose offsets mean something only together with what it wrote down, as a list of files."""

    def with_log(self, log: SourceLog) -> SourceConnector:
        """The same source with its memory in one checkpoint; opened only so."""
        ...


class KeepingSource(Protocol):
    """A source spec with `dead_letters` (plan/specs.py)."""

    def letters(self, source: str, bad: Sequence[BadRecord]) -> pa.Table:
        """Bad records of the source named `source` as rows of `dead_letters.schema`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """Rows of one sink lane and batch, ready to publish: `rows` as `Writer.encode` made them, cut at `chunks`.

    `chunks` are row numbers where a chunk ends; the last equals `rows.num_rows`. `committed` is the newest batch
    whose manifest is known to be durable.
    """

    job: str
    sink: str
    lane: int
    batch: int
    committed: int
    rows: pa.Table
    chunks: tuple[int, ...]
    epoch: int = 0
    """Generation of the driver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """The sink has the batch: `rows` published now; `skipped` when the marker said it was there already."""

    rows: int
    skipped: bool
    table: pa.Table | None = None
    """The rows themselves, for sinks that live in the driver (memory, console)."""


class Writer(Protocol):
    """A worker's view of a sink, for one (job, epoch, sink, lane)."""

    def encode(self, table: pa.Table, *, event_time: str | None) -> pa.Table:
        """Outbox rows: checked and serialised, so that publishing cannot fail for what the rows contain.

        Raises BadRecordError for a row the sink would refuse for ever.
        """
        ...

    def chunks(self, rows: pa.Table) -> tuple[int, ...]:
        """Where encoded `rows` are cut into transactions; the last bound equals `rows.num_rows`."""
        ...

    def publish(self, outgoing: Outgoing) -> Confirmed:
        """Put the rows into the sink; idempotent by (job, sink, lane, batch).

        Raises FencedError, CheckpointError (store rolled back), ConnectorError (try again).
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class SinkProbe(Protocol):
    """The driver's view of a sink at start."""

    def check(self) -> None:
        """Raise ConnectorError if the target is missing or may not be written."""
        ...

    def markers(self, job: str, sink: str, lanes: Sequence[int]) -> Mapping[int, int | None]:
        """Lane -> newest batch published there, -1: certainly none, None: not known. Read before all publishing."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class SinkConnector(SinkSpec, Protocol):
    """A sink spec that can be opened."""

    def open_probe(self) -> SinkProbe:
        """The driver's view."""
        ...

    def open_writer(self, *, job: str, sink: str, lane: int, schema: pa.Schema) -> Writer:
        """A worker's view, for one lane."""
        ...
