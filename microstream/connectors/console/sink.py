"""The first rows of every batch, for the driver to print: what travels does not grow with the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microstream.connectors.memory.sink import UncheckedProbe
from microstream.connectors.protocol import Confirmed, Outgoing
from microstream.errors import PlanError
from microstream.plan.specs import OutputMode, Publication

__all__ = ["ConsoleSink"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleSink:
    """One table per batch, of `rows` rows at most, printed by the driver.

    Raises
    ------
    PlanError
        `rows` is below 1.
    """

    rows: int

    def __post_init__(self) -> None:
        if isinstance(self.rows, bool) or not isinstance(self.rows, int) or self.rows < 1:
            raise PlanError(f"to_console(rows={self.rows!r}): must be a whole number, at least 1.")

    @property
    def kind(self) -> str:
        """ "console"."""
        return "console"

    @property
    def target(self) -> str:
        """The driver's standard output."""
        return ""

    @property
    def format(self) -> str:
        """Text is made where it is printed."""
        return ""

    @property
    def durable(self) -> bool:
        """Never."""
        return False

    @property
    def guarantee(self) -> str:
        """As `explain()` prints it."""
        return "at least once"

    @property
    def publication(self) -> Publication:
        """One table per batch, not one per lane."""
        return Publication(together=True, whole=True)

    def check(self, schema: pa.Schema) -> None:
        """Any rows can be printed."""

    def check_mode(self, mode: OutputMode) -> None:
        """In any mode."""

    def open_probe(self) -> UncheckedProbe:
        """The driver's view."""
        return UncheckedProbe()

    def open_writer(self, *, job: str, sink: str, lane: int, schema: pa.Schema) -> ConsoleWriter:
        """A worker's view, for one lane."""
        return ConsoleWriter(self.rows)


class ConsoleWriter:
    """Keeps the first rows of every lane; a last column counts, in its first row, how many there were."""

    def __init__(self, rows: int) -> None:
        self._rows = rows

    def encode(self, table: pa.Table, *, event_time: str | None) -> pa.Table:
        """The first rows, counted."""
        shown = table.slice(0, self._rows)
        counts = np.zeros(shown.num_rows, dtype=np.int64)
        counts[:1] = table.num_rows
        # Beside columns of the user's, whatever they are called: it is found by its place.
        return shown.append_column("rows of the lane", pa.array(counts))

    def chunks(self, rows: pa.Table) -> tuple[int, ...]:
        """One."""
        return (rows.num_rows,)

    def publish(self, outgoing: Outgoing) -> Confirmed:
        """The first rows of the batch back to the driver, which prints them, and how many there were in all."""
        counts = outgoing.rows.column(outgoing.rows.num_columns - 1)
        shown = outgoing.rows.select(list(range(outgoing.rows.num_columns - 1))).slice(0, self._rows)
        # Copied out, or a slice would take the whole buffers of all lanes along when it is pickled.
        return Confirmed(rows=pc.sum(counts).as_py() or 0, skipped=False, table=_copied(shown))

    def close(self) -> None:
        """Nothing to let go of."""


def _copied(table: pa.Table) -> pa.Table:
    return table.take(np.arange(table.num_rows))
