"""Keeps Python's garbage collector from stopping a process for a tenth of a second, again and again.

A process with Dask, pandas and a user's program holds half a million objects. A full collection looks at each of them,
with every thread stopped: 60 to 100 ms, every ten seconds. That is the whole latency of a small batch.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["short_pauses"]

LOOK_AT_ALL_S = 300.0


class _Frozen:
    """A generation that is older than Python's oldest: what a full collection left alive is not looked at in the next.

    Every `look_at_all_s` everything is, so that nothing stays for good.
    """

    def __init__(self, look_at_all_s: float) -> None:
        self._look_at_all_s = look_at_all_s
        self._looked_s = time.monotonic()

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """The collector starts or stops."""
        if info["generation"] < 2:
            return
        if phase == "stop":
            gc.freeze()
        elif time.monotonic() - self._looked_s >= self._look_at_all_s:
            self._looked_s = time.monotonic()
            gc.unfreeze()


_lock = threading.Lock()
_users = 0
_frozen: _Frozen | None = None


@contextmanager
def short_pauses(look_at_all_s: float = LOOK_AT_ALL_S) -> Iterator[None]:
    """Within, full collections of this process pass over what survived one.

    A program that has frozen objects of its own has its own idea of the collector, and keeps it.

    Parameters
    ----------
    look_at_all_s
        How long an object that survived and is garbage since may stay.
    """
    global _users, _frozen
    with _lock:
        _users += 1
        if _users == 1 and not gc.get_freeze_count():
            _frozen = _Frozen(look_at_all_s)
            gc.callbacks.append(_frozen)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users and _frozen is not None:
                gc.callbacks.remove(_frozen)
                gc.unfreeze()
                _frozen = None
