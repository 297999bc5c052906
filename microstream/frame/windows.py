"""Window specifications."""

from __future__ import annotations

import pandas as pd

from microstream.clock import duration_us
from microstream.errors import PlanError
from microstream.plan.nodes import Sliding, Tumbling

__all__ = ["sliding", "tumbling"]


def tumbling(size: str, offset: str = "0s") -> Tumbling:
    """Windows of `size` side by side: every row is in exactly one.

    Parameters
    ----------
    size
        A duration, as in "10s", "1min" or "1D" (24 hours); at least 1 us.
    offset
        Windows start at 1970-01-01T00:00 UTC plus a multiple of `size` plus this; may be negative ("-2h").

    Raises
    ------
    PlanError
        `size` or `offset` is no duration, or `size` is zero.

    >>> tumbling("1min", offset="-5s")
    Tumbling(size_us=60000000, offset_us=-5000000)
    """
    _refuse_count("tumbling", size)
    return Tumbling(size_us=_duration("tumbling", size, "size"), offset_us=_offset("tumbling", offset))


def sliding(size: str, every: str, offset: str = "0s") -> Tumbling | Sliding:
    """Windows of `size`, one beginning every `every`: a row is in each window that its time lies in.

    Parameters
    ----------
    size
        A duration, as in "10s" or "1h"; at least 1 us.
    every
        How far one window's start is from the next; at most `size`, which need not be a multiple of it.
    offset
        Windows start at 1970-01-01T00:00 UTC plus a multiple of `every` plus this; may be negative ("-2h").

    Notes
    -----
    Each key gives one row per window: every row of input comes out `size / every` times, if keys are rare. The state
    holds one partial result per key and `every`, not per window.

    Raises
    ------
    PlanError
        An argument is no duration or zero, or `every` is longer than `size`.

    >>> import pandas as pd
    >>> import microstream as ms
    >>> clicks = ms.from_pandas(pd.DataFrame({"ts": pd.to_datetime(["2026-01-01 00:00:05", "2026-01-01 00:00:15"])}),
    ...                         event_time="ts")
    >>> clicks.window(ms.sliding("20s", every="10s")).size().compute()
             window_start          window_end  size
    0 2025-12-31 23:59:50 2026-01-01 00:00:10     1
    1 2026-01-01 00:00:00 2026-01-01 00:00:20     2
    2 2026-01-01 00:00:10 2026-01-01 00:00:30     1
    """
    _refuse_count("sliding", size)
    size_us, every_us = _duration("sliding", size, "size"), _duration("sliding", every, "every")
    offset_us = _offset("sliding", offset)
    if size_us == every_us:
        return Tumbling(size_us=size_us, offset_us=offset_us)
    return Sliding(size_us=size_us, every_us=every_us, offset_us=offset_us)


def _refuse_count(where: str, size: object) -> None:
    if isinstance(size, int) and not isinstance(size, bool):
        raise PlanError(
            f"{where}({size}): windows that count rows are not available. Give a duration with a unit, as in '10s'."
        )


def _duration(where: str, text: object, argument: str) -> int:
    if not isinstance(text, str | pd.Timedelta):
        raise PlanError(f"{where}: {argument}={text!r} is not a duration. Write it with a unit, as in '10s' or '1min'.")
    return duration_us(str(text), argument=argument)


def _offset(where: str, text: object) -> int:
    negative = isinstance(text, str) and text.lstrip().startswith("-")
    return -_duration(where, str(text).lstrip()[1:], "offset") if negative else _duration(where, text, "offset")
