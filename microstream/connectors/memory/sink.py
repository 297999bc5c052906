"""Sinks of this process: rows kept as a table by the driver, and rows that are only counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from microstream.connectors.protocol import Confirmed, Outgoing
from microstream.plan.specs import OutputMode, Publication

__all__ = ["MemorySink", "NullSink"]

_COUNT = pa.schema([pa.field("rows", pa.int64(), nullable=False)])


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySink:
    """Rows come back to the driver, which keeps them until it ends; the table starts empty after a restart."""

    @property
    def kind(self) -> str:
        """ "memory"."""
        return "memory"

    @property
    def target(self) -> str:
        """Nothing outside this process."""
        return ""

    @property
    def format(self) -> str:
        """Rows stay Arrow."""
        return ""

    @property
    def durable(self) -> bool:
        """Never."""
        return False

    @property
    def guarantee(self) -> str:
        """As `explain()` prints it."""
        return "exactly once within this process"

    @property
    def publication(self) -> Publication:
        """Lanes publish by themselves, batch by batch, unless a result is wanted as a whole."""
        return Publication(whole=True)

    def check(self, schema: pa.Schema) -> None:
        """Any rows can be kept."""

    def check_mode(self, mode: OutputMode) -> None:
        """In any mode."""

    def open_probe(self) -> UncheckedProbe:
        """The driver's view."""
        return UncheckedProbe()

    def open_writer(self, *, job: str, sink: str, lane: int, schema: pa.Schema) -> MemoryWriter:
        """A worker's view, for one lane."""
        return MemoryWriter()


@dataclass(frozen=True, slots=True, kw_only=True)
class NullSink:
    """Rows are counted and forgotten: for measuring, and for operators read for their late rows only."""

    @property
    def kind(self) -> str:
        """ "null"."""
        return "null"

    @property
    def target(self) -> str:
        """Nothing."""
        return ""

    @property
    def format(self) -> str:
        """Nothing is written."""
        return ""

    @property
    def durable(self) -> bool:
        """Never."""
        return False

    @property
    def guarantee(self) -> str:
        """As `explain()` prints it."""
        return "rows are dropped"

    @property
    def publication(self) -> Publication:
        """Lanes publish by themselves, batch by batch."""
        return Publication()

    def check(self, schema: pa.Schema) -> None:
        """Any rows can be dropped."""

    def check_mode(self, mode: OutputMode) -> None:
        """In any mode."""

    def open_probe(self) -> UncheckedProbe:
        """The driver's view."""
        return UncheckedProbe()

    def open_writer(self, *, job: str, sink: str, lane: int, schema: pa.Schema) -> NullWriter:
        """A worker's view, for one lane."""
        return NullWriter()


class UncheckedProbe:
    """A target that is always there and remembers nothing."""

    def check(self) -> None:
        """Nothing can be missing."""

    def markers(self, job: str, sink: str, lanes: Sequence[int]) -> Mapping[int, int | None]:
        """Nothing outlives the process."""
        return dict.fromkeys(lanes)

    def close(self) -> None:
        """Nothing to let go of."""


class MemoryWriter:
    """Rows travel to the driver in the receipt; it keeps one table per (lane, batch), so a repeat changes nothing."""

    def encode(self, table: pa.Table, *, event_time: str | None) -> pa.Table:
        """The rows themselves."""
        return table

    def chunks(self, rows: pa.Table) -> tuple[int, ...]:
        """One."""
        return (rows.num_rows,)

    def publish(self, outgoing: Outgoing) -> Confirmed:
        """Hand the rows back."""
        return Confirmed(rows=outgoing.rows.num_rows, skipped=False, table=outgoing.rows)

    def close(self) -> None:
        """Nothing to let go of."""


class NullWriter:
    """Keeps a number in the outbox instead of rows."""

    def encode(self, table: pa.Table, *, event_time: str | None) -> pa.Table:
        """One row that holds how many there were."""
        return pa.table({"rows": [table.num_rows]}, schema=_COUNT)

    def chunks(self, rows: pa.Table) -> tuple[int, ...]:
        """One."""
        return (rows.num_rows,)

    def publish(self, outgoing: Outgoing) -> Confirmed:
        """Count the rows."""
        return Confirmed(rows=sum(n for n in outgoing.rows.column("rows").to_pylist() if n), skipped=False)

    def close(self) -> None:
        """Nothing to let go of."""
