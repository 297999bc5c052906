"""A source of numbered rows at a constant rate: for load tests, demos and trying a plan out.

Row k is the number k at `origin + k / rows_per_second`. The origin is when the query first looked at the source; it
is remembered beside the checkpoint, so a row is the same row in every attempt and after every restart, and the rows
of a time in which nothing ran are made up for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from microstream.checkpoint.source_log import SourceLog
from microstream.clock import Clock, SystemClock
from microstream.connectors.protocol import Bounds, Range, RangeCount, Read
from microstream.errors import InternalError, PlanError

__all__ = ["PARTITION", "SCHEMA", "RateProbe", "RateReader", "RateSource"]

PARTITION = "rate-0"
SCHEMA = pa.schema(
    [pa.field("timestamp", pa.timestamp("us"), nullable=False), pa.field("value", pa.int64(), nullable=False)]
)
Numbers: TypeAlias = "npt.NDArray[np.int64]"
MOST_PER_SECOND = 1_000_000_000
ROW_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSource:
    """`rows_per_second` rows with the columns `SCHEMA`, for ever.

    Raises
    ------
    PlanError
        `rows_per_second` is no whole number from 1 to 1,000,000,000.
    """

    rows_per_second: int
    log: SourceLog | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        rate = self.rows_per_second
        if isinstance(rate, bool) or not isinstance(rate, int) or not 1 <= rate <= MOST_PER_SECOND:
            raise PlanError(f"read_rate: rows_per_second={rate!r} must be a whole number from 1 to {MOST_PER_SECOND}.")

    @property
    def kind(self) -> str:
        """ "rate"."""
        return "rate"

    @property
    def target(self) -> str:
        """The rate: with another one, the offsets of a checkpoint would mean other rows."""
        return f"{self.rows_per_second} rows per second"

    @property
    def finite(self) -> bool:
        """Never."""
        return False

    @property
    def start(self) -> str:
        """The first row: nothing is older than the query."""
        return "earliest"

    def with_log(self, log: SourceLog) -> RateSource:
        """The same source, with a memory."""
        return replace(self, log=log)

    def open_probe(self) -> RateProbe:
        """The driver's view."""
        return RateProbe(self.rows_per_second, _required(self.log), SystemClock())

    def open_reader(self, *, name: str, schema: pa.Schema, event_time: str | None, max_ahead_us: int) -> RateReader:
        """A worker's view."""
        return RateReader(self.rows_per_second, _required(self.log), schema)


class RateProbe:
    """One partition, which ends at the row of the present moment."""

    def __init__(self, rows_per_second: int, log: SourceLog, clock: Clock) -> None:
        self._rate, self._log, self._clock = rows_per_second, log, clock
        self._origin_us: int | None = None
        self._end = 0

    def start_offsets(self, start: str) -> Mapping[str, int]:
        """The first row, whatever `start` is."""
        return {PARTITION: 0}

    def bounds(self) -> Mapping[str, Bounds]:
        """Rows whose time has come. A clock that is set back takes none of them away."""
        now_us = self._clock.now_us()
        if self._origin_us is None:
            self._origin_us = int(self._log.create(0, {"origin_us": now_us})["origin_us"])
        self._end = max(self._end, _rows_until(now_us - self._origin_us, self._rate))
        return {PARTITION: Bounds(low=0, end=self._end, clocked=True)}

    def ends(self) -> None:
        """Asking for all costs no more."""

    def identity(self) -> Mapping[str, str]:
        """Unknown."""
        return {}

    def offsets_at(self, time_us: int, partitions: Sequence[str]) -> Mapping[str, int | None]:
        """The first row at or after `time_us`."""
        if self._origin_us is None:
            return dict.fromkeys(partitions)
        return dict.fromkeys(partitions, max(0, _rows_until(time_us - self._origin_us, self._rate)))

    def unstable_ends(self) -> Mapping[str, int]:
        """The end."""
        return {PARTITION: self._end}

    def close(self) -> None:
        """Nothing to let go of."""


class RateReader:
    """Rows by their number."""

    def __init__(self, rows_per_second: int, log: SourceLog, schema: pa.Schema) -> None:
        self._rate, self._log, self._schema = rows_per_second, log, schema
        self._origin_us: int | None = None

    def read(self, ranges: Sequence[Range], *, batch_time_us: int) -> Read:
        """The rows of `ranges`; the offset of a row is its number."""
        parts = [np.arange(each.start, each.end, dtype=np.int64) for each in ranges]
        numbers = np.concatenate([np.empty(0, np.int64), *parts])
        columns: dict[str, Any] = {
            "timestamp": pa.array(self._origin() + self._elapsed_us(numbers)).view(pa.timestamp("us")),
            "value": pa.array(numbers),
        }
        return Read(
            table=pa.table([columns[name] for name in self._schema.names], schema=self._schema),
            offsets=numbers,
            counts=tuple(
                RangeCount(
                    partition=each.partition,
                    start=each.start,
                    end=each.end,
                    rows=len(part),
                    bad=0,
                    tombstones=0,
                    bytes=len(part) * ROW_BYTES,
                )
                for each, part in zip(ranges, parts, strict=True)
            ),
        )

    def _elapsed_us(self, numbers: Numbers) -> Numbers:
        """floor(k * 1e6 / rate), in whole seconds and the rest: the product alone would overflow after a while."""
        seconds, rest = np.divmod(numbers, self._rate)
        elapsed: Numbers = seconds * 1_000_000 + rest * 1_000_000 // self._rate
        return elapsed

    def _origin(self) -> int:
        if self._origin_us is None:
            entry = self._log.get(0)
            if entry is None:
                raise InternalError("a rate source is read before its origin was written")
            self._origin_us = int(entry["origin_us"])
        return self._origin_us

    def close(self) -> None:
        """Nothing to let go of."""


def _rows_until(elapsed_us: int, rate: int) -> int:
    """How many rows come before `elapsed_us`: the smallest k with k * 1e6 / rate >= elapsed_us.

    >>> _rows_until(0, 3), _rows_until(1, 3), _rows_until(333_334, 3)
    (0, 1, 2)
    """
    return -(-elapsed_us * rate // 1_000_000)


def _required(log: SourceLog | None) -> SourceLog:
    if log is None:
        raise InternalError("a rate source was opened without its log")
    return log
