"""When to merge runs: tiers as in log-structured merge trees, inline with the batch that adds a run."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["FANOUT", "tier"]

MOST = 64
FANOUT = 8
"""Runs of one level that become one run of the next."""


def tier(levels: Sequence[int], most: int = MOST) -> tuple[tuple[int, ...], int]:
    """Which runs to merge into the run that a batch is about to add, and the level of the result.

    A batch adds level 0. The `FANOUT`-th run of a level turns all runs of that level and below into one of
    the next, which may complete that level in turn. So a row is rewritten at most once per level, and there
    are at most `FANOUT` - 1 runs per level: at most 28 within 4,096 batches, 14 on average. Runs of one level
    need not be neighbours, as partial aggregates merge in any order.

    Parameters
    ----------
    levels
        Level of each run there is.
    most
        Where there are so many runs, at least 1, all are merged: the limit of a manifest counts for all lanes.

    Returns
    -------
    tuple
        Positions in `levels` of the runs to merge (often none), and the level of the new run.

    Examples
    --------
    >>> tier([1, 0, 0])
    ((), 0)
    >>> tier([1, 0, 0, 0, 0, 0, 0, 0])
    ((1, 2, 3, 4, 5, 6, 7), 1)
    """
    level = 0
    while sum(1 for other in levels if other == level) >= FANOUT - 1:
        level += 1
    if len(levels) >= most:
        level = 1 + max(levels)
    return tuple(at for at, other in enumerate(levels) if other < level), level
