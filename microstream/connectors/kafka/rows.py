"""Records of some ranges to one `Read`: decode all at once, then say per range what became of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from microstream.connectors.protocol import Range, RangeCount, Read
from microstream.errors import BadRecordError
from microstream.formats.protocol import Decoder

__all__ = ["BadRecords", "Taken", "rows_of"]

log = logging.getLogger("microstream.kafka")

SHOWN_BYTES = 200
GOOD, BAD, TOMBSTONE = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """All records of one range, in offset order; a value of None is a tombstone."""

    range: Range
    offsets: list[int]
    values: list[bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRecords:
    """What to do with records that cannot be decoded; those in `skip` (partition, offset) are not even tried."""

    action: Literal["fail", "drop"] = "fail"
    skip: frozenset[tuple[str, int]] = frozenset()


def rows_of(taken: Sequence[Taken], decoder: Decoder, *, latest_us: int, policy: BadRecords) -> Read:
    """One table of all good records, range by range.

    Raises
    ------
    BadRecordError
        A record is bad and the policy says "fail".
    """
    lengths = [len(part.offsets) for part in taken]
    owner = np.repeat(np.arange(len(taken)), lengths)
    offsets = np.fromiter(chain.from_iterable(part.offsets for part in taken), np.int64, sum(lengths))
    values = list(chain.from_iterable(part.values for part in taken))
    fate = _fate_before_decoding(taken, values, policy.skip)
    places = np.flatnonzero(fate == GOOD)
    messages = cast("list[bytes]", values if len(places) == len(values) else [values[at] for at in places.tolist()])
    decoded = decoder.decode(messages, latest_us=latest_us)
    for index, reason in decoded.bad:
        at = places[index]
        _judge(taken[owner[at]].range, int(offsets[at]), values[at], reason, policy)
        fate[at] = BAD
    counts = [np.bincount(owner[fate == kind], minlength=len(taken)).tolist() for kind in (GOOD, BAD, TOMBSTONE)]
    return Read(
        table=decoded.table,
        offsets=offsets[fate == GOOD],
        counts=tuple(_count(*each) for each in zip(taken, *counts, strict=True)),
    )


def _fate_before_decoding(
    taken: Sequence[Taken], values: Sequence[bytes | None], skip: frozenset[tuple[str, int]]
) -> npt.NDArray[np.int8]:
    fate = np.full(len(values), GOOD, np.int8)
    if None in values:
        fate[[at for at, value in enumerate(values) if value is None]] = TOMBSTONE
    if skip:
        records = ((part.range.partition, offset) for part in taken for offset in part.offsets)
        fate[[at for at, record in enumerate(records) if record in skip]] = BAD
    return fate


def _judge(where: Range, offset: int, record: bytes | None, reason: str, policy: BadRecords) -> None:
    shown = repr((record or b"")[:SHOWN_BYTES])
    if policy.action == "drop":
        log.warning("%s offset %d dropped: %s. Record: %s", where.partition, offset, reason, shown)
        return
    raise BadRecordError(
        f"source {where.source!r}, {where.partition} offset {offset}: {reason}. Record: {shown}. Pass it with "
        f"skip=[({where.partition!r}, {offset})], or all such records with on_bad_record='drop'.",
        partition=where.partition,
        offset=offset,
        reason=reason,
        record=record,
    )


def _count(part: Taken, rows: int, bad: int, tombstones: int) -> RangeCount:
    return RangeCount(
        partition=part.range.partition,
        start=part.range.start,
        end=part.range.end,
        rows=rows,
        bad=bad,
        tombstones=tombstones,
        bytes=sum(map(len, filter(None, part.values))),
    )
