"""CPU and memory of everything that a benchmark starts, sampled from outside."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

import psutil

__all__ = ["ProcessTree", "Sampler", "Usage", "sparkline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """CPU seconds (user and system) so far, and resident bytes now; shared pages count once per process."""

    cpu_s: float
    rss_bytes: int


class ProcessTree:
    """This process from now on, and the children that it starts from now on; older ones (a broker) are left out."""

    def __init__(self) -> None:
        self._me = psutil.Process()
        self._older = {child.pid for child in self._me.children(recursive=True)}
        self._cpu_s: dict[int, float] = {}
        self._own_before = _cpu_s(self._me)

    def usage(self) -> Usage:
        """As of now; what ended processes had used when they were last seen counts too."""
        rss = self._me.memory_info().rss
        for child in self._me.children(recursive=True):
            if child.pid in self._older:
                continue
            try:
                with child.oneshot():
                    self._cpu_s[child.pid] = _cpu_s(child)
                    rss += child.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return Usage(cpu_s=_cpu_s(self._me) - self._own_before + sum(self._cpu_s.values()), rss_bytes=rss)


class Sampler:
    """Calls `look` every `every_s` seconds on a thread of its own, while the block runs."""

    def __init__(self, look: Callable[[], None], every_s: float) -> None:
        self._look = look
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            self._look()


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """The course of `values` in `width` characters, from their least to their greatest.

    >>> sparkline([1, 2, 3, 4, 5, 6, 7, 8], width=4)
    '▁▃▅█'
    """
    bars = "▁▂▃▄▅▆▇█"
    if not values:
        return ""
    step = max(1, len(values) // width)
    shown = [max(values[at : at + step]) for at in range(0, len(values), step)][:width]
    low, high = min(shown), max(shown)
    return "".join(bars[int((value - low) / (high - low) * 7.999)] if high > low else bars[0] for value in shown)
