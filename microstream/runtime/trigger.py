"""When the next batch may start: at intervals, as soon as there is data, or until today's data is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from microstream.clock import duration_us
from microstream.errors import PlanError

__all__ = ["AvailableNow", "Continuously", "Every", "Trigger", "interval_us", "parse_trigger"]


@dataclass(frozen=True, slots=True)
class Every:
    """A batch at most every `interval_us`; at once when the last one took longer."""

    interval_us: int


@dataclass(frozen=True, slots=True)
class Continuously:
    """A batch as soon as there is data: the lowest latency."""


@dataclass(frozen=True, slots=True)
class AvailableNow:
    """Everything there is at the start of the query, in as many batches as needed; then stop."""


_NAMES = ("available_now", "availableNow", "once", "continuous", "continuously")
"""What people write for the triggers that are functions here."""

_ALLOWED = "use a duration such as '1s', ms.continuously() or ms.available_now()."

Trigger: TypeAlias = Every | Continuously | AvailableNow


def interval_us(trigger: Trigger) -> int | None:
    """Time from one batch to the next; None when as much as possible is wanted of each.

    >>> interval_us(Continuously())
    0
    """
    match trigger:
        case Every(interval_us=interval):
            return interval
        case Continuously():
            return 0
        case AvailableNow():
            return None


def parse_trigger(trigger: str | Trigger) -> Trigger:
    """A trigger from what `ms.start(trigger=)` takes.

    >>> parse_trigger("1s")
    Every(interval_us=1000000)
    """
    if isinstance(trigger, str) and trigger not in _NAMES:
        return Every(duration_us(trigger, argument="trigger"))
    if isinstance(trigger, Every | Continuously | AvailableNow):
        return trigger
    raise PlanError(f"trigger={trigger!r}: {_ALLOWED}")
