"""Window specifications."""

from __future__ import annotations

import pandas as pd

from microstream.clock import duration_us
from microstream.errors import PlanError
from microstream.plan.nodes import Tumbling

__all__ = ["tumbling"]


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
    return Tumbling(size_us=_duration(size, "size"), offset_us=_offset(offset))


def _duration(text: object, argument: str) -> int:
    if not isinstance(text, str | pd.Timedelta):
        raise PlanError(
            f"tumbling: {argument}={text!r} is not a duration. Write it with a unit, as in '10s' or '1min'."
        )
    return duration_us(str(text), argument=argument)


def _offset(text: object) -> int:
    negative = isinstance(text, str) and text.lstrip().startswith("-")
    return -_duration(str(text).lstrip()[1:], "offset") if negative else _duration(text, "offset")
