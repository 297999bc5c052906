"""Which rows have an event time that a watermark cannot use, for every format and for record times alike."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from microstream.clock import iso
from microstream.formats.masks import as_mask, note

__all__ = ["note_event_times"]

DECADE_US = 10 * 365 * 86_400 * 1_000_000
UNIT = '; is the unit right, as in "epoch[ms]" for milliseconds?'


def note_event_times(broken: dict[int, str], name: str, times: Any, latest_us: int | None) -> None:
    """Note in `broken` the rows whose event time is null, or after `latest_us` (microseconds since 1970; None: never).

    >>> broken: dict[int, str] = {}
    >>> note_event_times(broken, "t", pa.array([1, None, 3], pa.timestamp("us")), latest_us=2)
    >>> sorted(broken)
    [1, 2]
    """
    if times.null_count:
        note(broken, as_mask(pc.is_null(times)), lambda _: f"event time {name} is null or missing")
    if latest_us is None:
        return
    ahead = pc.greater(times, pa.scalar(latest_us, times.type))
    if pc.any(ahead).as_py():
        micros = times.cast(pa.int64())
        note(
            broken,
            as_mask(ahead),
            lambda row: (
                f"event time {name} is {iso(micros[row].as_py())}, later than max_ahead allows "
                f"(batch time + max_ahead = {iso(latest_us)})"
                f"{UNIT if micros[row].as_py() > latest_us + DECADE_US else ''}"
            ),
        )
