"""Time: microseconds since 1970 UTC as integers, and the only place that reads a clock."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from typing import Protocol

import numpy as np
import pandas as pd

from microstream.errors import PlanError

__all__ = ["BEGINNING_US", "END_US", "Clock", "SystemClock", "duration_us", "iso", "minus"]

BEGINNING_US = -(2**63)
"""Watermark before the first row: nothing is late, nothing closes."""

END_US = 2**63 - 1
"""Watermark after the last row of finite input: everything closes."""


class Clock(Protocol):
    """Where "now" comes from: the system, or a test."""

    def now_us(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """The wall clock of this machine."""

    def now_us(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1000


def minus(time_us: int, delay_us: int) -> int:
    """`time_us - delay_us`; the two ends of time stay where they are.

    >>> minus(1_000, 10), minus(BEGINNING_US, 10) == BEGINNING_US
    (990, True)
    """
    return time_us if time_us in (BEGINNING_US, END_US) else max(BEGINNING_US, time_us - delay_us)


def duration_us(text: str | timedelta, *, argument: str) -> int:
    """Microseconds of a pandas duration such as "10s", "1min" or "1D" (24 hours), or of a `timedelta`.

    A number without a unit is refused: pandas would take it for nanoseconds.

    Raises
    ------
    PlanError
        `text` is no fixed, non-negative duration.

    >>> duration_us("1.5s", argument="watermark")
    1500000
    """
    refusal = PlanError(
        f"{argument}={text!r} is not a duration. Write a number and a unit, as in '10s', '5min', '1h' or '1D'; "
        "months and years have no fixed length."
    )
    has_unit = isinstance(text, timedelta) or (isinstance(text, str) and any(c.isalpha() or c == ":" for c in text))
    # pandas reads "1MS" as a millisecond here, and as the start of a month in resample().
    if not has_unit or (isinstance(text, str) and re.search(r"MS\b", text)):
        raise refusal
    try:
        value = pd.Timedelta(text)
    except ValueError as problem:
        raise refusal from problem
    if not value >= pd.Timedelta(0):
        raise PlanError(f"{argument}={text!r} must be zero or more, as in '10s'.")
    return int(value // pd.Timedelta(1, "us"))


def iso(time_us: int) -> str:
    """UTC time as people read it.

    >>> iso(1_700_000_000_000_000), iso(BEGINNING_US), iso(END_US)
    ('2023-11-14T22:13:20.000000Z', '-infinity', '+infinity')
    """
    if time_us == BEGINNING_US:
        return "-infinity"
    if time_us == END_US:
        return "+infinity"
    return f"{np.datetime64(time_us, 'us')}Z"
