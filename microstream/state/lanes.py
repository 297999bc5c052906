"""Lanes: contiguous ranges of the hash space. Changing their number edits the manifest, no stored run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from microstream.checkpoint.manifest import HASH_SPACE, Run
from microstream.state.hashing import HASH_BITS, Hashes, hash_keys

__all__ = ["lane_of", "lane_ranges", "lane_starts", "rescale", "split"]


def lane_starts(lanes: int) -> tuple[int, ...]:
    """First hash of each of `lanes` equal lanes.

    >>> lane_starts(2) == (0, 2**63)
    True
    """
    return tuple(lane * HASH_SPACE // lanes for lane in range(lanes))


def lane_ranges(starts: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """`[lo, hi)` of each lane."""
    return tuple(zip(starts, (*starts[1:], HASH_SPACE), strict=True))


def lane_of(hashes: Hashes, starts: Sequence[int]) -> npt.NDArray[np.intp]:
    """The lane that owns each hash."""
    return np.searchsorted(np.array(starts, np.uint64), hashes, side="right") - 1


def split(
    table: pa.Table, keys: Sequence[str], starts: Sequence[int], *, bits: int = HASH_BITS
) -> tuple[pa.Table, ...]:
    """The rows of each lane, in their order: copies, or `table` itself where all go to one lane.

    Copies, because a slice that is sent to another worker may drag the buffers of the whole table with it; `table` must
    be no such slice.
    """
    if len(starts) == 1:
        return (table,)
    # numpy sorts 16-bit integers by radix.
    lanes = lane_of(hash_keys(table, keys, bits=bits), starts).astype(np.uint16)
    nothing = pa.Table.from_batches([], table.schema)
    if len(lanes) and (lanes == lanes[0]).all():
        return tuple(table if lane == lanes[0] else nothing for lane in range(len(starts)))
    order = np.argsort(lanes, kind="stable")
    bounds = np.searchsorted(lanes[order], np.arange(1, len(starts)))
    return tuple(table.take(rows).combine_chunks() if len(rows) else nothing for rows in np.split(order, bounds))


def rescale(runs: Sequence[Run], starts: Sequence[int]) -> tuple[Run, ...]:
    """The same rows listed for other lanes: runs are cut at the lanes' bounds, and joined where cut before.

    Afterwards no run crosses a lane. Its segment may hold rows of other ranges, which do not count; reading
    filters them.
    """
    pieces = [
        replace(run, lo=max(run.lo, lo), hi=min(run.hi, hi))
        for lo, hi in lane_ranges(starts)
        for run in sorted(runs, key=lambda run: (run.batch, run.lo))
        if run.lo < hi and lo < run.hi
    ]
    joined: list[Run] = []
    for piece in pieces:
        last = joined[-1] if joined else None
        if last and (last.segment, last.hi) == (piece.segment, piece.lo) and piece.lo not in starts:
            joined[-1] = replace(last, hi=piece.hi)
        else:
            joined.append(piece)
    return tuple(sorted(joined, key=lambda run: (run.batch, run.lo)))
