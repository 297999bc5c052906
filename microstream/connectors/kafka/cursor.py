"""Where a reader is in one partition, and what it holds of it: pure bookkeeping, without a client."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

__all__ = ["Cursor", "partition_of", "place_of"]

MOST_KEPT = 50_000
MOST_KEPT_BYTES = 16 << 20
NOTHING: Mapping[str, Sequence[Any]] = MappingProxyType({})


@dataclass(slots=True, kw_only=True)
class Cursor:
    """One partition of one consumer. `due` is where the next range starts if it continues the last one; `position` is
    the first offset that has not been received.

    `offsets`, `values` and `details` (key, time, headers, where they are wanted) are what was received and not taken,
    in order. `eof` is the highest end of partition reported
    since the last seek: librdkafka reports each end once, and records that were aborted, compacted away or mark a
    transaction are never delivered, so an end may be all there is to see of a range.
    """

    topic: str
    number: int
    due: int = -1
    position: int = -1
    fetching: bool = False
    eof: int = -1
    offsets: array[int] = field(default_factory=lambda: array("q"))
    values: list[bytes | None] = field(default_factory=list)
    details: dict[str, list[Any]] = field(default_factory=dict)
    _weighed: int = 0
    _weighed_bytes: int = 0

    def restart(self, at: int) -> None:
        """Forget everything: the next record is to be at or after `at`."""
        self.due, self.position, self.eof = at, at, -1
        self.offsets, self.values, self.details = array("q"), [], {}
        self._weighed = self._weighed_bytes = 0

    def receive(
        self, offsets: Iterable[int], values: Sequence[bytes | None], details: Mapping[str, Sequence[Any]] = NOTHING
    ) -> None:
        """One record or more in offset order, all at or after `position`; always with details of the same names."""
        if isinstance(offsets, range):
            self.offsets.frombytes(np.arange(offsets.start, offsets.stop, dtype=np.int64).tobytes())
        else:
            self.offsets.extend(offsets)
        self.values.extend(values)
        for name, found in details.items():
            self.details.setdefault(name, []).extend(found)
        self.position = self.offsets[-1] + 1

    def skip_to(self, offset: int) -> None:
        """Records below `offset` that are not here will never come."""
        self.position = max(self.position, offset)

    def has(self, end: int) -> bool:
        """Whether every record below `end` that will ever be delivered is here."""
        return self.eof >= end or self.position >= end

    def take(self, end: int) -> tuple[array[int], list[bytes | None], dict[str, list[Any]]]:
        """Records below `end`; later ones stay for the next range, which is due at `end`."""
        cut = bisect_left(self.offsets, end)
        taken = self.offsets[:cut], self.values[:cut], {name: found[:cut] for name, found in self.details.items()}
        self.offsets, self.values = self.offsets[cut:], self.values[cut:]
        self.details = {name: found[cut:] for name, found in self.details.items()}
        self._weighed = self._weighed_bytes = 0
        self.due = end
        self.skip_to(end)
        return taken

    def is_full(self) -> bool:
        """Whether more is kept than is good for memory: the partition should not be fetched for now."""
        if len(self.values) > MOST_KEPT:
            return True
        # Asked after every few hundred records: each is weighed once.
        self._weighed_bytes += sum(map(len, filter(None, self.values[self._weighed :])))
        self._weighed = len(self.values)
        return self._weighed_bytes > MOST_KEPT_BYTES


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
