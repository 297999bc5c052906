"""Where the partitions of a finite topic end: pure bookkeeping, without a client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from microstream.connectors.protocol import Bounds

__all__ = ["Ending"]


@dataclass(slots=True, kw_only=True)
class Ending:
    """A source that ends before the first record whose time is `time_us` or later; None: where it ends at first sight.

    Until the clock has passed that time, a partition without such a record may still get earlier ones. From then on
    (None: from the first look on) partitions that appear are no part of the source.
    """

    time_us: int | None
    stops: dict[str, int] = field(default_factory=dict)
    is_closed: bool = False

    def open(self, found: Mapping[str, Bounds]) -> list[str]:
        """Partitions of `found` whose end is not known yet."""
        return [] if self.is_closed else [name for name in found if name not in self.stops]

    def close(self, stops: Mapping[str, int]) -> None:
        """The rest ends at `stops`; there are no others."""
        self.stops.update(stops)
        self.is_closed = True

    def learn(self, first: Mapping[str, int | None], ends: Mapping[str, int], *, now_us: int) -> None:
        """What `open` partitions hold: the first record at or after the time, if any, and their end.

        `ends` include records that cannot be read yet, and were asked for after `now_us` and before `first`.
        """
        self.stops.update((name, at) for name, at in first.items() if at is not None)
        if self.time_us is not None and now_us >= self.time_us:
            self.close({name: end for name, end in ends.items() if first.get(name) is None})

    def cut(self, found: Mapping[str, Bounds]) -> dict[str, Bounds]:
        """`found` without what lies beyond the end."""
        return {name: self._cut(name, at) for name, at in found.items() if name in self.stops or not self.is_closed}

    def _cut(self, name: str, at: Bounds) -> Bounds:
        stop = self.stops.get(name)
        if stop is None:
            return at
        return Bounds(low=min(at.low, stop), end=min(at.end, stop), finished=at.end >= stop)
