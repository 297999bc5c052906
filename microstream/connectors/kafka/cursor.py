"""Where a reader is in one partition, and what it holds of it: pure bookkeeping, without a client."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Cursor", "partition_of", "place_of"]

MOST_KEPT = 50_000
MOST_KEPT_BYTES = 16 << 20


@dataclass(slots=True, kw_only=True)
class Cursor:
    """One partition of one consumer. `due` is where the next range starts if it continues the last one; `position` is
    the first offset that has not been received.

    `offsets` and `values` are what was received and not taken, in order. `eof` is the highest end of partition reported
    since the last seek: librdkafka reports each end once, and records that were aborted, compacted away or mark a
    transaction are never delivered, so an end may be all there is to see of a range.
    """

    topic: str
    number: int
    due: int = -1
    position: int = -1
    fetching: bool = False
    eof: int = -1
    offsets: list[int] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)

    def restart(self, at: int) -> None:
        """Forget everything: the next record is to be at or after `at`."""
        self.due, self.position, self.eof = at, at, -1
        self.offsets, self.values = [], []

    def receive(self, offsets: Sequence[int], values: Sequence[bytes | None]) -> None:
        """Records in offset order, all at or after `position`."""
        self.offsets.extend(offsets)
        self.values.extend(values)
        self.position = self.offsets[-1] + 1

    def skip_to(self, offset: int) -> None:
        """Records below `offset` that are not here will never come."""
        self.position = max(self.position, offset)

    def has(self, end: int) -> bool:
        """Whether every record below `end` that will ever be delivered is here."""
        return self.eof >= end or self.position >= end

    def take(self, end: int) -> tuple[list[int], list[bytes | None]]:
        """Records below `end`; later ones stay for the next range, which is due at `end`."""
        cut = bisect_left(self.offsets, end)
        taken = self.offsets[:cut], self.values[:cut]
        self.offsets, self.values = self.offsets[cut:], self.values[cut:]
        self.due = end
        self.skip_to(end)
        return taken

    def is_full(self) -> bool:
        """Whether more is kept than is good for memory: the partition should not be fetched for now."""
        if len(self.values) > MOST_KEPT:
            return True
        return sum(len(value) for value in self.values if value) > MOST_KEPT_BYTES


def partition_of(topic: str, number: int) -> str:
    """The name of a partition.

    >>> partition_of("bids", 3)
    'bids-3'
    """
    return f"{topic}-{number}"


def place_of(partition: str) -> tuple[str, int]:
    """Topic and number of a partition's name; a topic may contain dashes.

    >>> place_of("eu-bids-3")
    ('eu-bids', 3)
    """
    topic, _, number = partition.rpartition("-")
    return topic, int(number)
