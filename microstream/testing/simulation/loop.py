"""An asyncio event loop without waiting: virtual seconds, one thread, and an order that depends on nothing
but its input.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from typing import Any, TypeVar, cast

__all__ = ["ACTOR", "Due", "Process", "Stuck", "VirtualLoop"]

T = TypeVar("T")

MAX_CALLBACKS = 500_000
"""A run that needs more goes round in circles at one moment of virtual time."""


class Stuck(Exception):
    """Nothing can ever happen again, or not within the time given, and the awaited result is not there."""


class Process:
    """What the loop must know of whoever owns a callback: until when it stands still (a zombie, a long
    collection).
    """

    __slots__ = ("paused_until_s",)

    def __init__(self) -> None:
        self.paused_until_s = 0.0


ACTOR: ContextVar[Process | None] = ContextVar("microstream_simulation_actor", default=None)
"""The process on whose behalf the running callback or greenlet acts."""


class Due:
    """A callback that waits for its turn: what an `asyncio.Handle` is, without what only real loops need of it."""

    __slots__ = ("args", "callback", "cancelled", "context")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None) -> None:
        self.callback = callback
        self.args = args
        self.context = context if context is not None else copy_context()
        self.cancelled = False

    def cancel(self) -> None:
        """Never run it."""
        self.cancelled = True


class VirtualLoop:
    """Runs callbacks in the order of their virtual time; jumps to the next one instead of waiting.

    Callbacks of a paused process are put off until its pause ends, in their order. There are tasks, futures
    and timers, and nothing else of asyncio: no I/O, no signals, no other threads.
    """

    def __init__(self) -> None:
        self._now_s = 0.0
        self._ready: deque[Due] = deque()
        self._timers: list[tuple[float, int, Due]] = []
        self._serial = 0
        self._running = False
        self._as_loop = cast(asyncio.AbstractEventLoop, self)
        self.complaints: list[str] = []
        """Errors of callbacks that nobody awaited."""

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now_s

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Due:
        """Run `callback` at this moment, after everything that is due."""
        due = Due(callback, args, context)
        self._ready.append(due)
        return due

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Due:
        """Run `callback` in `delay` virtual seconds."""
        due = Due(callback, args, context)
        self._push(self._now_s + delay, due)
        return due

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Due:
        """Run `callback` at virtual time `when`."""
        due = Due(callback, args, context)
        self._push(when, due)
        return due

    def _push(self, when: float, due: Due) -> None:
        self._serial += 1
        heappush(self._timers, (when, self._serial, due))

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self._as_loop)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **_options: Any,
    ) -> asyncio.Task[T]:
        """A task of this loop; named by the order of creation where no name is given."""
        self._serial += 1
        return asyncio.Task(coro, loop=self._as_loop, name=name or f"task-{self._serial}", context=context)

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Whether `run_until_complete` is under way."""
        return self._running

    def is_closed(self) -> bool:
        """Never: there is nothing to close."""
        return False

    async def shutdown_asyncgens(self) -> None:
        """Nothing to do: generators end with their tasks."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Nothing: garbage collection reports here, at a time that no seed determines."""

    def run_until_complete(self, future: asyncio.Future[T], *, until_s: float = float("inf")) -> T:
        """Run until `future` is done.

        Raises
        ------
        Stuck
            Nothing is left to run, or virtual time passed `until_s`.
        """
        events._set_running_loop(self._as_loop)
        self._running = True
        try:
            for _ in range(MAX_CALLBACKS):
                if future.done():
                    return future.result()
                self._run_next(until_s)
            raise Stuck(f"{MAX_CALLBACKS} callbacks ran and the end is not in sight")
        finally:
            self._running = False
            events._set_running_loop(None)

    def drain(self) -> None:
        """Run what is due at this moment and whatever that makes due; leave timers alone."""
        events._set_running_loop(self._as_loop)
        try:
            while self._ready:
                self._run_next(float("inf"))
        finally:
            events._set_running_loop(None)

    def _run_next(self, until_s: float) -> None:
        if self._ready:
            due = self._ready.popleft()
        elif self._timers:
            when, _, due = heappop(self._timers)
            if when > until_s:
                raise Stuck(f"no result after {until_s} virtual seconds")
            if when > self._now_s:
                self._now_s = when
        else:
            raise Stuck("nothing is left to run")
        if due.cancelled:
            return
        owner = due.context.get(ACTOR)
        if owner is not None and owner.paused_until_s > self._now_s:
            self._push(owner.paused_until_s, due)
            return
        try:
            due.context.run(due.callback, *due.args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as in asyncio, the loop outlives its callbacks
            if isinstance(error, Exception):  # and not the death of a process
                self.complaints.append(f"a callback raised {error!r}")
