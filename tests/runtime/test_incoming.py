from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from queries import clocked, frames, table

from microstream.clock import BEGINNING_US, END_US
from microstream.connectors.protocol import Range, RangeCount, Read
from microstream.runtime.incoming import Incoming, read_sources
from microstream.runtime.task import Attempt, StageTask

ATTEMPT = Attempt(job="j", epoch=1, batch=0, number=0, commit_id="c", base="b", batch_time_us=77)
BIDS, ASKS = frames(name="bids"), frames(name="asks")
CLICKS = clocked(name="clicks")


@dataclass
class Log:
    """A topic with a row at every offset that `has`; the time of a row is ten times its offset."""

    has: dict[str, set[int]]
    asked_at: int = 0

    def read(self, ranges: Sequence[Range], *, batch_time_us: int) -> Read:
        self.asked_at = batch_time_us
        found = [sorted(o for o in self.has[r.partition] if r.start <= o < r.end) for r in ranges]
        counts = tuple(
            RangeCount(
                partition=r.partition,
                start=r.start,
                end=r.end,
                rows=len(offsets),
                bad=1,
                tombstones=2,
                bytes=7,
            )
            for r, offsets in zip(ranges, found, strict=True)
        )
        flat = [o for offsets in found for o in offsets]
        return Read(
            table=table([(r.partition, o, 10 * o) for r, offs in zip(ranges, found, strict=True) for o in offs]),
            offsets=np.array(flat, dtype=np.int64),
            counts=counts,
        )

    def close(self) -> None:
        """Nothing is open."""


def read(topics: dict[str, Log], *ranges: Range) -> Incoming:
    task = StageTask(
        attempt=ATTEMPT,
        level=0,
        lane=3,
        lanes=4,
        ranges=ranges,
        upstream=(),
        late=(),
        closed_before=(),
        closing=(),
        base_at=None,
        seal_after=1,
    )
    return read_sources([BIDS, CLICKS, ASKS], task, lambda source, lane: topics[f"{source}-{lane}"])


def piece(source: str, partition: int, start: int = 0, end: int = 10) -> Range:
    return Range(source=source, partition=f"{source}-{partition}", start=start, end=end)


offsets = st.sets(st.integers(0, 11))


@settings(deadline=None)
@given(a=offsets, b=offsets, c=offsets)
def test_every_row_can_be_traced_to_its_partition_and_offset(a: set[int], b: set[int], c: set[int]) -> None:
    topics = {"bids-3": Log({"bids-0": a, "bids-1": b}), "asks-3": Log({"asks-0": c})}

    incoming = read(topics, piece("bids", 1, 2), piece("asks", 0), piece("bids", 0))

    traced = []
    for source in (BIDS, ASKS):
        rows = incoming.rows[id(source)]
        if rows is not None:
            assert rows.origin is not None
            traced += [
                (incoming.position_of(int(origin)), f"{key} offset {value}")
                for origin, key, value in zip(
                    rows.origin, rows.table["key"].to_pylist(), rows.table["value"].to_pylist(), strict=True
                )
            ]
    assert [found for found, _ in traced] == [expected for _, expected in traced]
    assert len(traced) == len({o for o in b if 2 <= o < 10}) + len({o for o in c if o < 10}) + len(
        {o for o in a if o < 10}
    )


@settings(deadline=None)
@given(a=offsets, b=offsets)
def test_the_ledger_learns_the_newest_time_of_each_range_in_the_order_of_the_task(a: set[int], b: set[int]) -> None:
    topics = {"bids-3": Log({"bids-0": a, "bids-1": b})}
    ranges = (piece("bids", 1), piece("bids", 0, 3))

    metas = read(topics, *ranges).metas

    assert [(m.source, m.partition, m.start, m.end) for m in metas] == [
        (r.source, r.partition, r.start, r.end) for r in ranges
    ]
    newest = [
        max((o for o in have if r.start <= o < r.end), default=None) for r, have in zip(ranges, (b, a), strict=True)
    ]
    assert [m.max_event_time_us for m in metas] == [BEGINNING_US if o is None else 10 * o for o in newest]
    assert [(m.bad, m.tombstones, m.bytes) for m in metas] == [(1, 2, 7)] * 2


def test_a_source_without_ranges_is_not_asked_and_the_batch_time_goes_along() -> None:
    log = Log({"asks-0": {4}})

    incoming = read({"asks-3": log}, piece("asks", 0))

    assert set(incoming.rows) == {id(ASKS)}
    assert log.asked_at == 77


def test_a_row_of_unknown_origin_is_placed_by_the_ranges_of_its_task() -> None:
    incoming = read({"bids-3": Log({"bids-0": {1}})}, piece("bids", 0, 0, 5))
    derived = Incoming(rows={}, metas=(), reads=(), first=(), asked="")

    assert incoming.position_of(None) == "bids-0 offsets 0 to 4"
    assert derived.position_of(None) == "rows of an upstream operator"
    assert isinstance(incoming.reads[0].table, pa.Table)


@settings(deadline=None)
@given(a=offsets, b=offsets, c=offsets)
def test_rows_by_processing_time_and_their_ledger_have_the_time_of_the_batch(
    a: set[int], b: set[int], c: set[int]
) -> None:
    topics = {"clicks-3": Log({"clicks-0": a, "clicks-1": b}), "bids-3": Log({"bids-0": c})}

    incoming = read(topics, piece("clicks", 0, 0, 12), piece("bids", 0, 0, 12), piece("clicks", 1, 0, 12))

    rows, others = incoming.rows[id(CLICKS)], incoming.rows[id(BIDS)]
    if rows is not None:
        assert rows.table.schema.equals(CLICKS.schema)
        assert rows.table["value"].to_pylist() == [*sorted(a), *sorted(b)]
        assert set(rows.table["_processing_time"].cast(pa.int64()).to_pylist()) == {77}
    if others is not None:
        assert others.table.schema.equals(BIDS.schema)
    ends = {m.partition: (m.min_event_time_us, m.max_event_time_us) for m in incoming.metas}
    assert ends["clicks-0"] == ((77, 77) if a else (END_US, BEGINNING_US))
    assert ends["clicks-1"] == ((77, 77) if b else (END_US, BEGINNING_US))
    assert ends["bids-0"] == ((10 * min(c), 10 * max(c)) if c else (END_US, BEGINNING_US))
