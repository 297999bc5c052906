"""The engine without a cluster: one worker, one thread, in this process. For `compute()` and `head()`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from microstream.checkpoint.store import ObjectStore
from microstream.runtime.engine import EngineEvent, Fetch, Job, Task, TaskDone, TaskFailed, WorkerJoined
from microstream.runtime.worker import LaneWorker

__all__ = ["InlineEngine"]

ADDRESS = "inline"


class InlineEngine:
    """An `Engine` whose only worker is a thread.

    Parameters
    ----------
    store
        The checkpoint: handed over as it is, so that it may live in memory.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="microstream-lane")
        self._worker: LaneWorker
        self._notify: Callable[[EngineEvent], None]
        self._running: set[asyncio.Task[None]] = set()

    async def start(self, job: Job, notify: Callable[[EngineEvent], None]) -> None:
        """Open the worker."""
        self._notify = notify
        self._worker = LaneWorker(
            job=job, store=self._store, address=ADDRESS, exchange=self, new_id=lambda: uuid.uuid4().hex
        )
        notify(WorkerJoined(address=ADDRESS, threads=1))

    def fetch(self, address: str, wanted: Sequence[Fetch]) -> list[pa.Table]:
        """Tables of the one worker there is."""
        return self._worker.serve(wanted)

    def submit(self, tasks: Sequence[tuple[str, Task]]) -> None:
        """Queue tasks for the thread."""
        for _, task in tasks:
            running = asyncio.get_running_loop().create_task(self._run(task))
            self._running.add(running)
            running.add_done_callback(self._running.discard)

    async def _run(self, task: Task) -> None:
        loop = asyncio.get_running_loop()
        try:
            receipt = await loop.run_in_executor(self._thread, self._worker.run, task)
        except Exception as error:  # noqa: BLE001 - whatever a task raises is judged by the driver
            self._notify(TaskFailed(task=task, error=error))
        else:
            self._notify(TaskDone(task=task, receipt=receipt))

    def cancel(self, tasks: Sequence[Task]) -> None:
        """Their events are ignored by the driver."""

    def memory_fraction(self) -> float:
        """Not known."""
        return 0.0

    async def close(self) -> None:
        """End the thread and close the worker's connections."""
        await asyncio.gather(*self._running, return_exceptions=True)
        self._thread.shutdown(wait=True)
        if hasattr(self, "_worker"):
            self._worker.close()
