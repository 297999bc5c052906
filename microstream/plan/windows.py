"""Tumbling windows, and sliding ones with the panes that they share.

A pane is the time between two neighbouring window bounds: windows begin and end only where panes do. There is one pane
per step, or two where `size` is no multiple of `every`. Panes and windows have numbers, which ascend with time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from microstream.errors import PlanError

__all__ = ["Ints", "Sliding", "Tumbling"]

Ints = npt.NDArray[np.int64]

_FAR = 2**60
"""Numbers of windows and panes stay below this, so that they can be doubled in int64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tumbling:
    """Windows `[k * size + offset, (k + 1) * size + offset)` since 1970 UTC, in microseconds."""

    size_us: int
    offset_us: int = 0

    def __post_init__(self) -> None:
        if self.size_us < 1:
            raise PlanError("tumbling: size must be at least 1 us, as in ms.tumbling('10s').")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sliding:
    """Windows `[k * every + offset, k * every + offset + size)` since 1970 UTC, in microseconds.

    >>> hour = Sliding(size_us=60, every_us=20)
    >>> hour.panes, hour.pane_of(np.array([0, 19, 20])), hour.pane_ends_us(np.array([0, 1]))
    (3, array([0, 0, 1]), array([20, 40]))
    """

    size_us: int
    every_us: int
    offset_us: int = 0

    def __post_init__(self) -> None:
        if self.size_us < 1 or self.every_us < 1:
            raise PlanError("sliding: size and every must be at least 1 us, as in ms.sliding('1min', every='10s').")
        if self.every_us > self.size_us:
            raise PlanError(
                "sliding: every is longer than size, so some rows would be in no window. Choose every <= size."
            )

    @property
    def per_step(self) -> int:
        """Panes that begin within `every`."""
        return 2 if self.size_us % self.every_us else 1

    @property
    def panes(self) -> int:
        """Panes of one window."""
        return self.per_step * (self.size_us // self.every_us) + (self.per_step - 1)

    def pane_of(self, times_us: Ints) -> Ints:
        """Number of the pane that holds each time."""
        since = times_us - self.offset_us
        steps = since // self.every_us
        if self.per_step == 1:
            return steps
        return 2 * steps + (since - steps * self.every_us >= self.size_us % self.every_us)

    def pane_ends_us(self, panes: Ints) -> Ints:
        """End of each pane, exclusive."""
        if self.per_step == 1:
            return (panes + 1) * self.every_us + self.offset_us
        within = np.where(panes & 1, self.every_us, self.size_us % self.every_us)
        return (panes >> 1) * self.every_us + self.offset_us + within

    def window_ends_us(self, windows: Ints) -> Ints:
        """End of each window, exclusive."""
        return windows * self.every_us + (self.offset_us + self.size_us)

    def first_windows(self, panes: Ints) -> Ints:
        """First window that contains each pane."""
        return -((self.panes - 1 - panes) // self.per_step)

    def last_windows(self, panes: Ints) -> Ints:
        """Last window that contains each pane."""
        return panes // self.per_step

    def closed_through(self, watermark_us: int) -> int:
        """Last window that ends at or before the watermark, which may be infinite."""
        return _near((watermark_us - self.offset_us - self.size_us) // self.every_us)

    def full_panes(self, watermark_us: int) -> int:
        """The first pane that does not end at or before the watermark, which may be infinite."""
        # Python's integers: an infinite watermark has no room for an offset in int64.
        steps, within = divmod(watermark_us - self.offset_us, self.every_us)
        second = self.per_step == 2 and within >= self.size_us % self.every_us
        return _near(self.per_step * steps + second)

    def pane_end_us(self, pane: int) -> int:
        """End of one pane, whose number may be far off."""
        steps, second = divmod(pane, self.per_step)
        whole = self.per_step == 1 or second
        end = steps * self.every_us + self.offset_us + (self.every_us if whole else self.size_us % self.every_us)
        return max(-(2**63), min(end, 2**63 - 1))

    def expired_us(self, watermark_us: int) -> int:
        """End of the last pane whose windows all end at or before the watermark."""
        return self.pane_end_us(self.per_step * (self.closed_through(watermark_us) + 1) - 1)

    def waiting_us(self, first_end_us: int, last_end_us: int) -> tuple[int, int]:
        """Ends of the first window of one pane and of the last window of another, given the ends of these panes."""
        first, last = self.pane_of(np.array([first_end_us, last_end_us]) - 1)
        windows = np.array([self.first_windows(first), self.last_windows(last)])
        first_us, last_us = self.window_ends_us(windows).tolist()
        return first_us, last_us


def _near(number: int) -> int:
    return max(-_FAR, min(number, _FAR))
