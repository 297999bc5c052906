"""The cluster that a query starts when it is given none: worker processes on this machine, for as long as it runs."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask.config
from distributed import LocalCluster, Nanny

from microstream.errors import ConnectorError
from microstream.runtime.tuning import scheduler_prepared

__all__ = ["local_cluster"]

log = logging.getLogger("microstream.cluster")

START_TRIES = 3
KEEP_WORKERS = "1000 days"


async def local_cluster(workers: int) -> LocalCluster:
    """Worker processes on this machine, one thread each: the reader's Python loop holds the GIL.

    Settings that a long-running stream of small batches needs are in force for this cluster only.

    Raises
    ------
    ConnectorError
        Worker processes do not start.
    """
    for _ in range(START_TRIES - 1):
        try:
            return await _start(workers)
        except RuntimeError as problem:
            # Nannies replace a worker that dies later; one that dies while it starts fails the whole cluster.
            log.warning("the local Dask cluster did not start (%s), trying again", problem)
    try:
        return await _start(workers)
    except RuntimeError as problem:
        raise ConnectorError(f"the local Dask cluster does not start: {problem}") from problem


async def _start(workers: int) -> LocalCluster:
    with scheduler_prepared():
        cluster = _KeepingCluster(
            n_workers=workers,
            worker_class=_MainlessNanny,
            threads_per_worker=1,
            asynchronous=True,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        )
        try:
            return await cluster
        except BaseException:
            await cluster.close()
            raise


class _KeepingCluster(LocalCluster):  # type: ignore[misc]
    """A local cluster that never gives up a worker process.

    Dask gives one up for good if, 15 s after it died, it is just dying again: a few crashes in a row leave no worker.
    Its nanny alone brings it back every time.
    """

    def _update_worker_status(self, op: str, msg: Any) -> None:
        with dask.config.set({"distributed.deploy.lost-worker-timeout": KEEP_WORKERS}):
            super()._update_worker_status(op, msg)


class _MainlessNanny(Nanny):  # type: ignore[misc]
    """Starts worker processes that do not run the user's program.

    A process that is spawned imports the program's main module first. Without `if __name__ == "__main__"` that would
    start the query again, in the worker. Functions of the main module are sent by value, so nothing needs it there.
    """

    async def instantiate(self) -> Any:
        with _main_hidden():
            return await super().instantiate()


_hiding = threading.Lock()
_hidden: dict[str, Any] = {}
_starting = 0


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Within, `multiprocessing` finds no file that its children would have to run."""
    global _starting
    main = sys.modules["__main__"]
    with _hiding:
        if not _starting:
            _hidden.update({name: vars(main).pop(name) for name in ("__spec__", "__file__") if name in vars(main)})
            main.__spec__ = None
        _starting += 1
    try:
        yield
    finally:
        with _hiding:
            _starting -= 1
            if not _starting:
                vars(main).update(_hidden)
                _hidden.clear()
