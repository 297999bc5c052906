"""Progress and closed windows as a person at a terminal wants to see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich.table import Table

__all__ = ["newest_windows", "progress_line"]


def progress_line(progress: Mapping[str, Any] | None, status: str) -> str:
    """One line about the newest batch; the status of the query where there is none yet.

    >>> progress_line(None, "starting")
    'starting'
    >>> progress_line(
    ...     {"batchId": 7, "numInputRows": 1250, "processedRowsPerSecond": 31250.4,
    ...      "eventTime": {"watermark": "2026-01-01T12:00:05.250000Z"}}, "running")
    'batch 7, 1,250 rows at 31,250 rows/s, watermark 12:00:05.250'
    """
    if progress is None:
        return status
    watermark = progress["eventTime"]["watermark"]
    clock = watermark[11:23] if "T" in watermark else watermark
    return (
        f"batch {progress['batchId']}, {progress['numInputRows']:,} rows "
        f"at {progress['processedRowsPerSecond']:,.0f} rows/s, watermark {clock}"
    )


def newest_windows(windows: pd.DataFrame, rows: int) -> Table:
    """The newest `rows` rows of closed windows; text to the left, numbers to the right."""
    newest = windows.sort_values(["window_end", *windows.columns], ascending=False, kind="stable").head(rows)
    table = Table(title=f"closed windows: {len(windows):,} rows, the newest {len(newest)}", title_justify="left")
    for name in newest.columns:
        table.add_column(str(name), justify="right" if pd.api.types.is_numeric_dtype(newest[name]) else "left")
    for row in newest.itertuples(index=False):
        table.add_row(*map(_cell, row))
    return table


def _cell(value: Any) -> str:
    return f"{value:%H:%M:%S}" if isinstance(value, pd.Timestamp) else str(value)
