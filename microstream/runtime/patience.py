"""Waiting for something outside that is away: say so, try again ever more slowly, give up after a bound."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from microstream.clock import Clock

__all__ = ["patiently"]

T = TypeVar("T")
log = logging.getLogger("microstream.driver")

FIRST_PAUSE_S = 0.1


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
    began_us = clock.now_us()
    try:
        # Nearly always all there is to do: tenacity's machinery takes longer than the call.
        return await call()
    except away as problem:
        if clock.now_us() - began_us >= bound_us:
            raise
        announce(f"waiting: {problem}")
        log.warning("%s Trying again for %.0f s.", problem, bound_us / 1e6)

    def is_over(state: RetryCallState) -> bool:
        return clock.now_us() - began_us >= bound_us

    def say(state: RetryCallState) -> None:
        announce(f"waiting: {state.outcome.exception() if state.outcome is not None else None}")

    pause = wait_exponential(multiplier=2 * FIRST_PAUSE_S, max=5.0)
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(away),
        stop=is_over,
        wait=lambda state: pause(state) + jitter_s(),
        sleep=asyncio.sleep,
        before_sleep=say,
        reraise=True,
    )
    await asyncio.sleep(FIRST_PAUSE_S + jitter_s())
    async for attempt in retrying:
        with attempt:
            result = await call()
            announce("")
            log.warning("going on after %d tries", 1 + attempt.retry_state.attempt_number)
    return result
