"""Rows of a Parquet file by offsets: row i of N belongs to offset `i * count // N` of the file's `count` offsets.

So a file is cut at any row, without its footer being read when it is found; a row group is decoded once for all
batches that cut it, as long as they follow each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from microstream.connectors.files.journal import Listed

__all__ = ["ParquetRows", "PieceOfRows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceOfRows:
    """Rows as the file has them: `table` holds those of its `columns` that are wanted, `numbers` and `units` each
    row's place in it."""

    table: pa.Table
    columns: tuple[str, ...]
    numbers: npt.NDArray[np.int64]
    units: npt.NDArray[np.int64]


class ParquetRows:
    """Reads pieces of Parquet files; keeps the last row group.

    Parameters
    ----------
    files
        The file system.
    columns
        Those that are decoded, where a file has them.
    """

    def __init__(self, files: Any, columns: list[str]) -> None:
        self._files, self._columns = files, columns
        self._held: tuple[tuple[str, str, int], pa.Table] | None = None

    def between(self, file: Listed, low: int, high: int) -> PieceOfRows:
        """The rows of offsets `[low, high)` of the file, 0 being its first."""
        with self._files.open(file.path, "rb") as opened, pq.ParquetFile(opened) as parquet:
            total = parquet.metadata.num_rows
            begin, stop = (-(-unit * total // file.count) for unit in (low, high))
            columns = [name for name in parquet.schema_arrow.names if name in self._columns]
            parts, first = [parquet.schema_arrow.empty_table().select(columns)], 0
            for number in range(parquet.num_row_groups):
                rows = parquet.metadata.row_group(number).num_rows
                if columns and first < stop and first + rows > begin:
                    group = self._group(parquet, file, number, columns)
                    skipped = max(0, begin - first)
                    parts.append(group.slice(skipped, min(stop - first, rows) - skipped))
                first += rows
            numbers = np.arange(begin, stop)
            return PieceOfRows(
                table=pa.concat_tables(parts),
                columns=tuple(parquet.schema_arrow.names),
                numbers=numbers,
                units=numbers * file.count // max(total, 1),
            )

    def _group(self, parquet: Any, file: Listed, number: int, columns: list[str]) -> pa.Table:
        key = (file.path, file.version, number)
        if self._held is None or self._held[0] != key:
            self._held = None  # Before the next one is read: two at a time would be twice the memory.
            self._held = (key, parquet.read_row_group(number, columns=columns, use_threads=False))
        return self._held[1]
