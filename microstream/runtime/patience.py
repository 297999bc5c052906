"""Waiting for something outside that is away: say so, try again ever more slowly, give up after a bound."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from microstream.clock import Clock

__all__ = ["patiently"]

T = TypeVar("T")
log = logging.getLogger("microstream.driver")

PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0)
"""Before the second try, the third, and so on; the last one counts for all that follow."""


async def patiently(
    call: Callable[[], Awaitable[T]],
    *,
    away: type[Exception] | tuple[type[Exception], ...],
    bound_us: int,
    clock: Clock,
    jitter_s: Callable[[], float],
    announce: Callable[[str], None],
) -> T:
    """`await call()`, again while it raises `away`, for `bound_us` at most; then the last error is raised.

    Parameters
    ----------
    call
        Starts one try.
    away
        Errors that may pass.
    bound_us
        How long after the first try a new one may still start, in microseconds.
    clock, jitter_s
        Time, and up to 0.1 s of randomness between tries.
    announce
        Told why the query waits, and "" when it goes on.
    """
    began_us, tries = clock.now_us(), 0
    while True:
        tries += 1
        try:
            result = await call()
        except away as problem:
            pause_s = PAUSES_S[min(tries, len(PAUSES_S)) - 1] + jitter_s()
            if clock.now_us() - began_us >= bound_us:
                raise
            announce(f"waiting: {problem}")
            if tries == 1:
                log.warning("%s Trying again for %.0f s.", problem, bound_us / 1e6)
        else:
            if tries > 1:
                announce("")
                log.warning("going on after %d tries", tries)
            return result
        await asyncio.sleep(pause_s)
