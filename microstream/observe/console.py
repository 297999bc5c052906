"""What `to_console` prints: one table per batch, as Spark's console sink does."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Literal

import pandas as pd

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["print_batch", "title"]

log = logging.getLogger("microstream.console")

WIDEST = 40
"""Characters of a cell on paper; longer ones end in "…" on a terminal and "..." elsewhere, as pandas has it."""


def print_batch(sink: str, batch: int, frame: pd.DataFrame, total: int) -> None:
    """`frame`, the first of `total` rows, to standard output: as a table on a terminal, else as pandas prints it.

    Whoever reads the output may be gone: that ends no query.
    """
    said = title(sink, batch, len(frame), total)
    try:
        if sys.stdout.isatty():
            from rich.console import Console

            Console(file=sys.stdout).print(_table(said, frame))
        else:
            text = frame.to_string(index=False, max_colwidth=WIDEST)
            sys.stdout.write(f"{said}\n{text}\n\n")
            sys.stdout.flush()
    except (OSError, ValueError) as problem:
        log.warning("sink %s: batch %d could not be printed: %s", sink, batch, problem)


def title(sink: str, batch: int, shown: int, total: int) -> str:
    """The line above a table.

    >>> title("totals", 7, 20, 1_250), title("totals", 8, 1, 1)
    ('totals, batch 7: 1,250 rows, the first 20', 'totals, batch 8: 1 row')
    """
    rows = f"{total:,} row" if total == 1 else f"{total:,} rows"
    return f"{sink}, batch {batch}: {rows}" + (f", the first {shown}" if shown < total else "")


def _table(said: str, frame: pd.DataFrame) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=said, title_justify="left")
    for name in frame.columns:
        justify: Literal["right", "left"] = "right" if pd.api.types.is_numeric_dtype(frame[name]) else "left"
        table.add_column(Text(str(name)), justify=justify, max_width=WIDEST, no_wrap=True)
    for row in frame.itertuples(index=False, name=None):
        table.add_row(*(Text(str(value)) for value in row))
    return table
