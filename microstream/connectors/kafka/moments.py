"""Where reading a topic starts and ends: by place ("earliest", "latest"), by record time, or that long ago."""

from __future__ import annotations

from datetime import datetime

import pandas as pd

from microstream.clock import duration_us, iso
from microstream.errors import PlanError

__all__ = ["check_order", "moment", "moment_us"]


def moment(argument: str, value: object, places: tuple[str, ...]) -> str:
    """`value` in one form: a name of `places`, a time in UTC as ISO text, or a duration with a minus.

    Parameters
    ----------
    argument
        As the user wrote it, for the error: "read_kafka(start=)".
    value
        Besides text, a `datetime` (so a `pandas.Timestamp`); without a zone it is UTC.
    places
        What can be named.

    Raises
    ------
    PlanError
        `value` is nothing of the kind.

    >>> moment("start", "2026-01-01T01:00+01:00", ()), moment("start", "-30D", ())
    ('2026-01-01T00:00:00.000000Z', '-30D')
    """
    if isinstance(value, str) and value in places:
        return value
    try:
        if isinstance(value, str) and value.startswith("-"):
            duration_us(value[1:], argument=argument)
            return value
        time = pd.Timestamp(datetime.fromisoformat(value) if isinstance(value, str) else _time(value))
        return iso(int(time.as_unit("us").asm8.view("i8")))  # UTC, where there is a zone, too
    except (ValueError, TypeError) as problem:
        raise PlanError(
            f"{argument}={value!r}: must be {', '.join(map(repr, places))}, a time such as '2026-01-31T12:00' or a "
            "pandas.Timestamp (UTC unless it has a zone), or '-30D' for that long before the start of the query."
        ) from problem


def moment_us(text: str, now_us: int) -> int | None:
    """The time that a moment names, in a query that starts at `now_us`; None for a place.

    >>> moment_us("1970-01-01T00:00:01.000000Z", 0), moment_us("-1s", 5_000_000), moment_us("latest", 0)
    (1000000, 4000000, None)
    """
    if text.startswith("-"):
        return now_us - duration_us(text[1:], argument="start")
    return pd.Timestamp(text).value // 1000 if text[0].isdigit() else None


def check_order(start: str | None, end: str | None) -> None:
    """Raise PlanError where nothing can lie between two moments, whenever the query starts."""
    if start is None or end is None or start == "earliest" or end == "latest":
        return
    relative = [text == "latest" or text.startswith("-") for text in (start, end)]
    if relative[0] == relative[1] and (moment_us(start, 0) or 0) >= (moment_us(end, 0) or 0):
        raise PlanError(f"read_kafka(start={start!r}, end={end!r}): the end must be after the start.")


def _time(value: object) -> datetime:
    if not isinstance(value, datetime) or pd.isna(value):
        raise TypeError(f"{type(value).__name__} is not a time")
    return value
