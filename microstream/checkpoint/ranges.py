"""Byte ranges: read close ones together, then cut them apart again."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

__all__ = ["cut", "merged"]


def merged(ranges: Sequence[tuple[int, int]], max_gap: int) -> list[tuple[int, int]]:
    """Spans `[start, end)`, sorted and apart, that cover all (offset, length) of `ranges`; empty ranges need
    none.

    >>> merged([(0, 10), (12, 5), (90, 3), (40, 0)], max_gap=4)
    [(0, 17), (90, 93)]
    """
    spans: list[tuple[int, int]] = []
    for offset, length in sorted(ranges):
        if not length:
            continue
        if spans and offset - spans[-1][1] <= max_gap:
            spans[-1] = (spans[-1][0], max(spans[-1][1], offset + length))
        else:
            spans.append((offset, offset + length))
    return spans


def cut(ranges: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]], pieces: Sequence[bytes]) -> list[bytes]:
    """The bytes of each of `ranges`, from the `pieces` read for `spans`; fewer where a piece is short.

    >>> cut([(2, 3), (5, 0)], [(1, 9)], [b"bcdefghi"])
    [b'cde', b'']
    """
    starts = [start for start, _ in spans]
    found = []
    for offset, length in ranges:
        if not length:
            found.append(b"")
            continue
        at = bisect_right(starts, offset) - 1
        begin = offset - starts[at]
        found.append(pieces[at][begin : begin + length])
    return found
