"""What SIGTERM and Ctrl-C mean to a process that waits for its queries: stop them in order.

A killed query loses nothing either; but one that stopped in order has published everything, and the next start on its
checkpoint need not wait to see whether its owner still lives.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["LeftAtOnce", "after_ctrl_c", "stopping_on_ctrl_c", "stopping_on_sigterm", "wait_awake"]

log = logging.getLogger("microstream.query")

LOOK_S = 0.1
CTRL_C = "Ctrl-C: finishing and publishing the batches in flight. Once more leaves at once; nothing is lost."


class LeftAtOnce(BaseException):
    """The second Ctrl-C. At a KeyboardInterrupt `await_termination` would stop in order, and wait, once more."""


def wait_awake(event: threading.Event, timeout: float | None = None) -> bool:
    """`event.wait(timeout)` that Ctrl-C ends.

    polars, once imported, has a handler for SIGINT after which Linux restarts what the main thread waits in: a wait
    without a timeout would never return to Python, which has to raise the KeyboardInterrupt.
    """
    rest = timeout
    while not event.wait(LOOK_S if rest is None else min(LOOK_S, rest)):
        if rest is not None:
            rest -= LOOK_S
            if rest <= 0:
                return event.is_set()
    return True


def after_ctrl_c(name: str, stop: Callable[[], None], ended: Iterable[threading.Event]) -> None:
    """What becomes of the queries of a process whose waiting for query `name` was interrupted.

    In a notebook or at a prompt they go on. A script is about to end: `stop` is called, and all of `ended` awaited.
    """
    if hasattr(sys, "ps1") or sys.flags.interactive:
        log.warning("query %s goes on; query.stop() stops it.", name)
        return
    log.warning(CTRL_C)
    stop()
    for query in ended:
        wait_awake(query)


@contextmanager
def stopping_on_sigterm(stop: Callable[[], None]) -> Iterator[threading.Event]:
    """Within, SIGTERM calls `stop` instead of ending the process; the event tells of it.

    Only on the main thread, where Python runs signal handlers, and only where nobody else handles the signal.
    `stop` must return at once and take no lock that the main thread may hold.
    """

    received = threading.Event()

    def stop_in_order() -> None:
        received.set()
        stop()  # before the log, which may fail in a handler that interrupted it
        log.warning("SIGTERM: finishing and publishing the batches in flight.")

    with _handled(signal.SIGTERM, signal.SIG_DFL, stop_in_order):
        yield received


@contextmanager
def stopping_on_ctrl_c(stop: Callable[[], None]) -> Iterator[threading.Event]:
    """As `stopping_on_sigterm`, of the first Ctrl-C, wherever it meets the main thread; the event tells of it.

    The next one raises `LeftAtOnce`.
    """
    pressed = threading.Event()

    def stop_in_order() -> None:
        if pressed.is_set():
            raise LeftAtOnce
        pressed.set()
        stop()
        log.warning(CTRL_C)

    with _handled(signal.SIGINT, signal.default_int_handler, stop_in_order):
        yield pressed


@contextmanager
def _handled(number: signal.Signals, default: Any, handler: Callable[[], None]) -> Iterator[None]:
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(number) is not default:
        yield
        return

    def called(_number: int, _frame: FrameType | None) -> None:
        handler()

    signal.signal(number, called)
    try:
        yield
    finally:
        signal.signal(number, default)
