from __future__ import annotations

import logging

import pandas as pd

import microstream as ms


def late_bids() -> ms.StreamFrame:
    """Four batches of a row each; the last two rows are late."""
    minutes = pd.to_datetime("2026-01-01 12:00") + pd.to_timedelta([0, 9, 1, 2], unit="min")
    frame = pd.DataFrame({"page": "a", "ts": minutes})
    return ms.from_pandas(frame, event_time="ts", watermark="0s", batches=4)


def warned(log_records: list[logging.LogRecord]) -> list[str]:
    return [line.getMessage() for line in log_records if line.name == "microstream.late"]


def test_the_first_late_rows_of_an_operator_are_told_once(log_records: list[logging.LogRecord]) -> None:
    late_bids().groupby("page").window(ms.tumbling("1min")).size().named("per-page").compute()

    [line] = warned(log_records)
    assert line.startswith("operator per-page: 1 rows of batch 2 came after their window had closed")


def test_late_rows_that_somebody_reads_are_not_told(log_records: list[logging.LogRecord]) -> None:
    counts = late_bids().groupby("page").window(ms.tumbling("1min")).size()

    _, late = ms.compute(counts, counts.late)

    assert (len(late), warned(log_records)) == (2, [])
