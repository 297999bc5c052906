"""Keeps Python's garbage collector from stopping a process for a tenth of a second, again and again.

A process with Dask, pandas and a user's program holds half a million objects. A full collection looks at each of them,
with every thread stopped: 60 to 100 ms, every ten seconds. That is the whole latency of a small batch.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["no_collections", "short_pauses"]

LOOK_AT_ALL_S = 300.0


class _Frozen:
    """Sets aside what the first full collection left alive: modules, classes, what was there before the query.

    The first one after every `look_at_all_s` looks at everything and sets aside anew, so that nothing stays for good.
    Whatever is made in between is collected as ever.
    """

    def __init__(self, look_at_all_s: float) -> None:
        self._look_at_all_s = look_at_all_s
        self._frozen_s: float | None = None
        self._ended = False

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """The collector starts or stops."""
        if info["generation"] < 2:
            return
        if phase == "start":
            if self._frozen_s is not None and time.monotonic() - self._frozen_s >= self._look_at_all_s:
                self._frozen_s = None
                gc.unfreeze()
        elif self._frozen_s is None:
            self._frozen_s = time.monotonic()
            gc.freeze()
            if self._ended:
                # It ended in another thread meanwhile, and has given everything back already.
                gc.unfreeze()

    def end(self) -> None:
        """Give everything back."""
        self._ended = True
        gc.callbacks.remove(self)
        gc.unfreeze()


_lock = threading.Lock()
_users = 0
_frozen: _Frozen | None = None


@contextmanager
def short_pauses(look_at_all_s: float = LOOK_AT_ALL_S) -> Iterator[None]:
    """Within, full collections of this process pass over what was there at the first of them.

    A program that froze objects before has its own idea of the collector, and keeps it. From Python 3.14 on the
    collector never looks at everything at once.

    Parameters
    ----------
    look_at_all_s
        For how long at least objects are set aside; those that are garbage since stay until the next full collection.
    """
    global _users, _frozen
    with _lock:
        _users += 1
        if _users == 1 and not gc.get_freeze_count() and sys.version_info < (3, 14):
            _frozen = _Frozen(look_at_all_s)
            gc.callbacks.append(_frozen)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users and _frozen is not None:
                _frozen.end()
                _frozen = None


@contextmanager
def no_collections() -> Iterator[None]:
    """Within, nothing is collected: loading modules leaves no garbage, but looking for it takes a tenth of the time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
