"""Rows on their way through a stage, with the input row that each of them came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from microstream.errors import InternalError

__all__ = ["UNKNOWN", "Positions", "Rows", "concat_rows"]

Positions: TypeAlias = npt.NDArray[np.int64]

UNKNOWN = -1
"""Origin of a row of which it is no longer known where it came from."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """A table, and for each of its rows the position in the stage's input of the source row it came from.

    Attributes
    ----------
    table
        The rows.
    origin
        int64, one per row, `UNKNOWN` where provenance is lost; None when it is lost for all rows (derived
        rows, or behind `map_batches`). A stage with several sources numbers all their rows
        consecutively, so that a position names one row of one source, and concatenated rows keep theirs.
    """

    table: pa.Table
    origin: Positions | None

    def __post_init__(self) -> None:
        if self.origin is not None and len(self.origin) != self.table.num_rows:
            raise InternalError(f"{len(self.origin)} origins for {self.table.num_rows} rows")

    def __len__(self) -> int:
        return self.table.num_rows

    def carry(self, table: pa.Table) -> Rows:
        """The same rows with other columns."""
        return replace(self, table=table)

    def take(self, positions: Positions) -> Rows:
        """The rows at `positions`, in that order; a position may repeat."""
        origin = None if self.origin is None else self.origin[positions]
        return Rows(table=self.table.take(positions), origin=origin)

    def keep(self, mask: npt.NDArray[np.bool_]) -> Rows:
        """The rows where `mask` is true; the rows themselves where it is true everywhere."""
        if mask.all():
            return self
        origin = None if self.origin is None else self.origin[mask]
        return Rows(table=self.table.filter(pa.array(mask)), origin=origin)

    def origin_of(self, row: int | None) -> int | None:
        """Position in the stage's input that `row` came from, None where that is not known."""
        if row is None or self.origin is None or self.origin[row] == UNKNOWN:
            return None
        return int(self.origin[row])


def concat_rows(parts: Sequence[Rows], schema: pa.Schema) -> Rows:
    """All rows of `parts` in order, columns by name; `schema` differs from theirs in nullability only."""
    names = schema.names
    tables = [pa.Table.from_arrays(part.table.select(names).columns, schema=schema) for part in parts]
    if all(part.origin is None for part in parts):
        return Rows(table=pa.concat_tables(tables), origin=None)
    lost = [np.full(len(part), UNKNOWN, np.int64) for part in parts]
    origins = [lost[at] if part.origin is None else part.origin for at, part in enumerate(parts)]
    return Rows(table=pa.concat_tables(tables), origin=np.concatenate(origins))
