from __future__ import annotations

from io import StringIO

import pandas as pd
from rich.console import Console

from microstream.observe.display import newest_windows, progress_line


def drawn(windows: pd.DataFrame, rows: int) -> str:
    written = StringIO()
    Console(width=100, file=written).print(newest_windows(windows, rows))
    return " ".join(written.getvalue().split())  # a title is as wide as its table


def test_only_the_newest_windows_are_drawn_and_all_are_counted() -> None:
    ends = pd.date_range("2026-01-01 12:00", periods=5, freq="1min")
    windows = pd.DataFrame({"auction": range(5), "window_end": ends, "n": 1}).sample(frac=1, random_state=1)

    text = drawn(windows, rows=2)

    assert "5 rows, the newest 2" in text
    assert text.index("12:04:00") < text.index("12:03:00")
    assert "12:02:00" not in text


def test_no_window_is_an_empty_table() -> None:
    windows = pd.DataFrame({"auction": pd.array([], "int64"), "window_end": pd.array([], "datetime64[us]")})

    text = drawn(windows, rows=2)

    assert "0 rows, the newest 0" in text


def test_a_watermark_that_is_no_time_yet_is_shown_as_it_is() -> None:
    progress = {
        "batchId": 0,
        "numInputRows": 0,
        "processedRowsPerSecond": 0.0,
        "eventTime": {"watermark": "-infinity"},
    }

    line = progress_line(progress, "running")

    assert line.endswith("watermark -infinity")
