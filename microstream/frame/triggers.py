"""When batches run; the values of `ms.start(trigger=)`."""

from __future__ import annotations

from microstream.clock import duration_us
from microstream.runtime.trigger import AvailableNow, Continuously, Every

__all__ = ["available_now", "continuously", "every"]


def every(interval: str) -> Every:
    """A batch at most every `interval`, a duration such as "1s"; at once when the last one took longer.

    >>> every("1s")
    Every(interval_us=1000000)
    """
    return Every(duration_us(interval, argument="every"))


def continuously() -> Continuously:
    """A batch as soon as there is data: the lowest latency, and the most batches."""
    return Continuously()


def available_now() -> AvailableNow:
    """Everything that is there at the start, from the earliest record on, in as many batches as needed; then stop.

    Windows that are open then stay open, in the checkpoint, until a later run goes on.
    """
    return AvailableNow()
