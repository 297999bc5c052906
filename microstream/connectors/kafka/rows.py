"""Records of some ranges to one `Read`: decode all at once, then say per range what became of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from microstream.connectors.kafka.attributes import ATTRIBUTES, DETAILS, attribute_column, record_times
from microstream.connectors.protocol import BadRecord, Range, RangeCount, Read
from microstream.errors import BadRecordError
from microstream.formats.event_time import note_event_times
from microstream.formats.protocol import Decoder

__all__ = ["BadRecords", "Layout", "Taken", "rows_of"]

log = logging.getLogger("microstream.kafka")

SHOWN_BYTES = 200
GOOD, BAD, TOMBSTONE = 0, 1, 2
NO_VALUE = -1

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """All records of one range, in offset order; a value of None is a tombstone.

    `details` (names of `DETAILS`) are lists as long as `offsets`, of what `Message` gives.
    """

    range: Range
    offsets: Sequence[int]
    values: list[bytes | None]
    details: Mapping[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRecords:
    """What to do with records that cannot be decoded; those in `skip` (partition, offset) are not even tried."""

    action: Literal["fail", "drop", "dead_letter"] = "fail"
    skip: frozenset[tuple[str, int]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The columns of the rows: those of the value, and those of `ATTRIBUTES`, in any order.

    With `tombstones` a record without a value is a row whose value columns are null, but for `event_time`, which is
    the record's time. Without, it is counted and gives no row.
    """

    schema: pa.Schema
    event_time: str | None = None
    tombstones: bool = False

    @property
    def attributes(self) -> tuple[str, ...]:
        """The columns that do not come from the value."""
        return tuple(name for name in self.schema.names if name in ATTRIBUTES)

    @property
    def details(self) -> tuple[str, ...]:
        """What must be kept of each record beside its value."""
        wanted = {*self.attributes, *(("_timestamp",) if self.tombstones and self.event_time else ())}
        return tuple(name for name in DETAILS if name in wanted)

    def value_schema(self, required: Sequence[str] = ()) -> pa.Schema:
        """The columns of the value, those in `required` never null: what a decoder reads."""
        fields = [field for field in self.schema if field.name not in ATTRIBUTES]
        return pa.schema([field.with_nullable(field.nullable and field.name not in required) for field in fields])


def rows_of(taken: Sequence[Taken], decoder: Decoder, layout: Layout, *, latest_us: int, policy: BadRecords) -> Read:
    """One table of all good records, range by range.

    Raises
    ------
    BadRecordError
        A record is bad and the policy says "fail".
    """
    records = Records.of(taken)
    fate = _fate_before_decoding(taken, records.sizes, policy.skip)
    places = np.flatnonzero(fate == GOOD)
    values = records.values if len(places) == len(fate) else [records.values[at] for at in places.tolist()]
    decoded = decoder.decode(cast("list[bytes]", values), latest_us=latest_us)
    reasons = {int(places[index]): reason for index, reason in decoded.bad}
    fate[list(reasons)] = BAD
    table, rows = decoded.table, np.flatnonzero(fate == GOOD) if decoded.record is None else places[decoded.record]
    if layout.tombstones or layout.attributes:
        late = _faults_of_record_times(records, fate, layout, latest_us)
        table, rows = _without(table, rows, late.keys())
        fate[list(late)] = BAD
        reasons |= late
        table, rows = _completed(table, rows, records, fate, layout)
    bad = tuple(records.bad(at, reasons[at]) for at in sorted(reasons))
    _judge(taken, bad, policy)
    uncounted = fate == TOMBSTONE if not layout.tombstones else np.zeros(len(fate), bool)
    tallies = [np.bincount(records.owner[of], minlength=len(taken)).tolist() for of in (rows, fate == BAD, uncounted)]
    tallies.append(np.bincount(records.owner, np.maximum(records.sizes, 0), minlength=len(taken)).astype(int).tolist())
    return Read(
        table=table,
        offsets=records.offsets[rows],
        counts=tuple(_count(*each) for each in zip(taken, *tallies, strict=True)),
        bad=bad,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """All records of several ranges one after the other; record k lies in range `owner[k]`.

    `sizes` are bytes of the values, `NO_VALUE` for tombstones.
    """

    ranges: tuple[Range, ...]
    owner: Ints
    offsets: Ints
    values: list[bytes | None]
    sizes: Ints
    details: Mapping[str, list[Any]]

    @classmethod
    def of(cls, taken: Sequence[Taken]) -> Records:
        """The records of `taken`."""
        lengths = [len(part.offsets) for part in taken]
        values = list(chain.from_iterable(part.values for part in taken))
        return cls(
            ranges=tuple(part.range for part in taken),
            owner=np.repeat(np.arange(len(taken)), lengths),
            offsets=np.concatenate([np.asarray(part.offsets, np.int64) for part in taken]),
            values=values,
            sizes=_sizes(values),
            # A range without records may come without details.
            details={
                name: list(chain.from_iterable(part.details.get(name, ()) for part in taken))
                for name in {name for part in taken for name in part.details}
            },
        )

    def column(self, name: str) -> Any:
        """Column `name` of `ATTRIBUTES`, one value per record."""
        return attribute_column(name, self.ranges, self.owner, self.offsets, self.details.get(name, ()))

    def bad(self, at: int, reason: str) -> BadRecord:
        """Record `at` as one that is bad for `reason`."""
        kept = {name: found[at] for name, found in self.details.items()}
        time = record_times([kept["_timestamp"]])[0].value if "_timestamp" in kept else None
        headers = kept.get("_headers")
        return BadRecord(
            partition=self.ranges[self.owner[at]].partition,
            offset=int(self.offsets[at]),
            reason=reason,
            value=self.values[at],
            key=kept.get("_key"),
            time_us=time,
            headers=None if headers is None else tuple(headers),
        )


def _sizes(values: Sequence[bytes | None]) -> Ints:
    try:
        return np.fromiter(map(len, cast("Sequence[bytes]", values)), np.int64, len(values))
    except TypeError:
        return np.array([NO_VALUE if value is None else len(value) for value in values], np.int64)


def _fate_before_decoding(
    taken: Sequence[Taken], sizes: Ints, skip: frozenset[tuple[str, int]]
) -> npt.NDArray[np.int8]:
    fate = np.where(sizes == NO_VALUE, TOMBSTONE, GOOD).astype(np.int8)
    if skip:
        records = ((part.range.partition, offset) for part in taken for offset in part.offsets)
        fate[[at for at, record in enumerate(records) if record in skip]] = BAD
    return fate


def _faults_of_record_times(
    records: Records, fate: npt.NDArray[np.int8], layout: Layout, latest_us: int
) -> dict[int, str]:
    """Records whose event time is the record's own, and impossible."""
    if layout.event_time is None or not (layout.tombstones or layout.event_time == "_timestamp"):
        return {}
    of_all = layout.event_time == "_timestamp"
    judged = np.flatnonzero((fate == TOMBSTONE) & layout.tombstones | (fate == GOOD) & of_all)
    times = records.column("_timestamp").take(judged)
    faults: dict[int, str] = {}
    note_event_times(faults, "_timestamp", times, latest_us)
    return {int(judged[at]): reason for at, reason in faults.items()}


def _without(table: pa.Table, rows: Ints, records: Any) -> tuple[pa.Table, Ints]:
    """Rows of other records than `records`."""
    if not records:
        return table, rows
    kept = ~np.isin(rows, list(records))
    return table.filter(pa.array(kept)), rows[kept]


def _completed(
    table: pa.Table, rows: Ints, records: Records, fate: npt.NDArray[np.int8], layout: Layout
) -> tuple[pa.Table, Ints]:
    """`table` with the rows of tombstones, and with the columns that do not come from the value."""
    columns: dict[str, Any] = {name: table.column(name) for name in table.column_names}
    tombstones = np.flatnonzero(fate == TOMBSTONE) if layout.tombstones else np.array([], np.int64)
    if len(tombstones):
        together = np.concatenate([rows, tombstones])
        order = np.argsort(together, kind="stable")
        rows = together[order]
        for name, column in columns.items():
            absent: Any = pa.nulls(len(tombstones), column.type)
            if name == layout.event_time:
                absent = records.column("_timestamp").take(tombstones)
            columns[name] = pa.chunked_array([*column.chunks, absent], column.type).take(order)
    for name in layout.attributes:
        columns[name] = records.column(name).take(rows)
    return pa.Table.from_arrays([columns[field.name] for field in layout.schema], schema=layout.schema), rows


def _judge(taken: Sequence[Taken], bad: Sequence[BadRecord], policy: BadRecords) -> None:
    """What becomes of the bad records of a piece is said of the first."""
    if not bad:
        return
    record = bad[0]
    shown, where = repr((record.value or b"")[:SHOWN_BYTES]), f"{record.partition} offset {record.offset}"
    if policy.action != "fail":
        done = " dropped" if policy.action == "drop" else ""
        log.warning("%d bad records%s, the first is %s: %s. Record: %s", len(bad), done, where, record.reason, shown)
        return
    raise BadRecordError(
        f"source {taken[0].range.source!r}, {where}: {record.reason.rstrip('.')}. Record: {shown}. Pass it with "
        f"skip=[({record.partition!r}, {record.offset})], or all such records with "
        "on_bad_record='drop' or, to keep them in a topic, 'dead_letter'; or, if it is as it should be, correct "
        "schema=.",
        partition=record.partition,
        offset=record.offset,
        reason=record.reason,
        record=record.value,
    )


def _count(part: Taken, rows: int, bad: int, tombstones: int, size: int) -> RangeCount:
    return RangeCount(
        partition=part.range.partition,
        start=part.range.start,
        end=part.range.end,
        rows=rows,
        bad=bad,
        tombstones=tombstones,
        bytes=size,
    )
