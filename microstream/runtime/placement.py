"""Which worker runs which lane. Lanes stay where their state is cached, as long as that worker lives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

__all__ = ["is_uneven", "place"]


def place(lanes: int, threads: Mapping[str, int], previous: Sequence[str]) -> tuple[str, ...]:
    """Worker address of each lane: `previous` where that worker lives, the least loaded one per thread otherwise.

    >>> place(3, {"a": 1, "b": 1}, ())
    ('a', 'b', 'a')
    >>> place(3, {"b": 1, "c": 1}, ("a", "b", "a"))
    ('c', 'b', 'b')
    """
    if not threads:
        return ()
    chosen: list[str | None] = [a if a in threads else None for a in (*previous[:lanes], *[None] * lanes)[:lanes]]
    load = Counter(address for address in chosen if address is not None)
    for lane, address in enumerate(chosen):
        if address is None:
            address = min(threads, key=lambda a: ((load[a] + 1) / threads[a], a))
            load[address] += 1
            chosen[lane] = address
    return tuple(address for address in chosen if address is not None)


def is_uneven(placed: Sequence[str], threads: Mapping[str, int]) -> bool:
    """Whether a fresh placement would use the workers better (after one joined).

    >>> is_uneven(("a", "a"), {"a": 1, "b": 1}), is_uneven(("a", "b"), {"a": 1, "b": 1})
    (True, False)
    """

    def busiest(placement: Sequence[str]) -> float:
        load = Counter(placement)
        return max((load[a] / threads.get(a, 1) for a in load), default=0.0)

    return bool(threads) and busiest(placed) > busiest(place(len(placed), threads, ()))
