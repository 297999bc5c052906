"""A query as a notebook shows it: a few figures and the newest rows, redrawn while it runs."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Mapping
from html import escape
from typing import Any, TypeAlias

import pandas as pd

__all__ = ["Drawn", "has_live_cells", "query_html", "show_live"]

REDRAW_S = 0.5
"""Often enough for eyes, and seldom enough that the page stays light."""

Drawn: TypeAlias = Mapping[str, str]
"""MIME type -> text."""


def has_live_cells() -> bool:
    """Whether this is a Jupyter kernel, whose outputs can be redrawn; a terminal would only get more lines."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return hasattr(shell, "kernel")


def show_live(draw: Callable[[], Drawn], ended: threading.Event) -> None:
    """Display what `draw` gives in the cell that runs now, and redraw it until `ended`."""
    display: Any = importlib.import_module("IPython.display").display

    first = draw()
    handle = display(first, raw=True, display_id=True)
    threading.Thread(target=_redraw, args=(handle, draw, first, ended), name="microstream-cell", daemon=True).start()


def _redraw(handle: Any, draw: Callable[[], Drawn], shown: Drawn, ended: threading.Event) -> None:
    over = False
    while not over:
        over = ended.wait(REDRAW_S)
        now = draw()
        if now != shown:
            handle.update(now, raw=True)
            shown = now


def query_html(name: str, status: str, progress: Mapping[str, Any] | None, newest: Mapping[str, pd.DataFrame]) -> str:
    """The figures of a query, and the newest rows of its memory sinks.

    >>> "waiting: &lt;no worker&gt;" in query_html("totals", "waiting: <no worker>", None, {})
    True
    """
    lines = [("query", name), ("status", status), *_figures(progress)]
    rows = "".join(f"<tr><th style='text-align:left'>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in lines)
    tables = "".join(
        f"<p><b>{escape(sink)}</b>, newest rows</p>{frame.to_html(index=False, border=0)}"
        for sink, frame in newest.items()
    )
    return f"<div class='microstream-query'><table>{rows}</table>{tables}</div>"


def _figures(progress: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if progress is None:
        return []
    lags = [at["lag"] for source in progress["sources"] for at in source["partitions"].values()]
    state = sum(operator["numRowsTotal"] for operator in progress["stateOperators"])
    late = sum(operator["numRowsDroppedByWatermark"] for operator in progress["stateOperators"])
    return [
        ("batch", f"{progress['batchId']:,} in {progress['batchDuration']:,} ms"),
        ("rows", f"{progress['numInputRows']:,} at {progress['processedRowsPerSecond']:,.0f} rows/s"),
        ("behind", "unknown" if None in lags else f"{sum(lags):,} records"),
        ("watermark", progress["eventTime"]["watermark"]),
        ("state", f"{state:,} rows; {late:,} late rows in this batch"),
    ]
