"""Threads of a worker for stages that the driver calls: nearest to the sink first, and nothing that is out of date.

They are not the threads of Dask's tasks, so that a function of the user's may start tasks and wait for them.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, PriorityQueue
from typing import Generic, TypeVar

from microstream.runtime.engine import ExchangeLostError
from microstream.runtime.task import StageTask

__all__ = ["ClosingError", "StageThreads"]

T = TypeVar("T")

BATCHES_KNOWN = 8
"""At most two batches are in flight; an attempt of an older one is not waited for by anybody."""


class ClosingError(ConnectionError):
    """The worker is on its way out: to the driver it is like one that does not answer."""

    def __str__(self) -> str:
        return "it is closing"


class StageThreads(Generic[T]):
    """As many stages at a time as the worker has threads.

    Parameters
    ----------
    count
        How many threads.
    run
        Does a task; called in one of the threads.
    """

    def __init__(self, count: int, run: Callable[[StageTask], T]) -> None:
        self._count, self._run = count, run
        self._lock = threading.Lock()
        self._newest: dict[int, int] = {}
        """Batch -> its newest attempt."""
        self._order = itertools.count()
        self._waiting: PriorityQueue[tuple[int, int, StageTask | None, Future[T]]] = PriorityQueue()
        self._closed = False
        self._threads: list[threading.Thread] = []

    def submit(self, task: StageTask) -> Future[T]:
        """Run `task` when its turn comes.

        The future raises ExchangeLostError where a newer attempt came first, and ClosingError after `close`.
        """
        answer: Future[T] = Future()
        attempt = task.attempt
        with self._lock:
            if self._closed:
                answer.set_exception(ClosingError())
                return answer
            self._start()
            self._newest[attempt.batch] = max(attempt.number, self._newest.get(attempt.batch, -1))
            for batch in [b for b in self._newest if b < attempt.batch - BATCHES_KNOWN]:
                del self._newest[batch]
            self._waiting.put((-task.level, next(self._order), task, answer))
        return answer

    def _start(self) -> None:
        """At the first call: where stages are tasks, no thread waits in vain."""
        for number in range(len(self._threads), self._count):
            thread = threading.Thread(target=self._work, name=f"stage-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Start nothing more; what runs ends for nobody."""
        with self._lock:
            self._closed = True
            with suppress(Empty):
                while True:
                    answer = self._waiting.get_nowait()[-1]
                    if answer.set_running_or_notify_cancel():
                        answer.set_exception(ClosingError())
            for _ in self._threads:
                self._waiting.put((-1_000_000, next(self._order), None, Future()))

    def _work(self) -> None:
        while True:
            _, _, task, answer = self._waiting.get()
            if task is None:
                return
            if not answer.set_running_or_notify_cancel():
                continue
            try:
                if self._is_outdated(task):
                    raise ExchangeLostError(f"batch {task.attempt.batch}, attempt {task.attempt.number}: out of date")
                answer.set_result(self._run(task))
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever asked
                answer.set_exception(error)
            del task, answer

    def _is_outdated(self, task: StageTask) -> bool:
        """Whether the driver gave the attempt up: a newer one of the same batch came, or of one that it stands on."""
        with self._lock:
            return any(
                number > task.attempt.number and batch <= task.attempt.batch for batch, number in self._newest.items()
            )
