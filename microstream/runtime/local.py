"""The cluster that a query starts when it is given none: worker processes on this machine, for as long as it runs."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from multiprocessing import spawn
from typing import Any

import dask.config
from distributed import LocalCluster, Nanny

from microstream.errors import ConnectorError
from microstream.runtime.forking import ENVIRONMENT, forked_workers
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
        except (OSError, RuntimeError) as problem:
            # Nannies replace a worker that dies later; one that dies while it starts fails the whole cluster.
            log.warning("the local Dask cluster did not start (%s), trying again", problem)
    try:
        return await _start(workers)
    except (OSError, RuntimeError) as problem:
        raise ConnectorError(f"the local Dask cluster does not start: {_reasons(problem)}") from problem


def _reasons(problem: BaseException) -> str:
    """What Dask says, and what was behind it."""
    said = str(problem).rstrip(".")
    while (cause := problem.__cause__ or problem.__context__) is not None:
        problem = cause
    root = f"{type(problem).__name__}: {problem}".rstrip(": ")
    return f"{said} ({root}). Processes of {os.fsdecode(spawn.get_executable())} must be able to start."


async def _start(workers: int) -> LocalCluster:
    with scheduler_prepared():
        cluster = _KeepingCluster(
            n_workers=workers,
            worker_class=_ForkingNanny,
            threads_per_worker=1,
            asynchronous=True,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        )
        try:
            return await cluster
        except BaseException:
            # One that was interrupted at its start may fail to close, which must not hide why it was.
            with suppress(Exception):
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


class _ForkingNanny(Nanny):  # type: ignore[misc]
    """Forks worker processes, which do not run the user's program.

    A process that Python starts imports the program's main module first. Without `if __name__ == "__main__"` that would
    start the query again, in the worker. Functions of the main module are sent by value, so nothing needs it there.
    """

    env: dict[str, str]
    pre_spawn_env: dict[str, str]
    config: dict[str, Any]

    async def instantiate(self) -> Any:
        # A fork has the environment of when the process it is forked from was started.
        self.env = {**os.environ, **self.env}
        # That process has them since its start, where they work; Dask would set them here, and leave them.
        self.pre_spawn_env = {}
        self.config = {**self.config, ENVIRONMENT: list(self.env)}
        with forked_workers:
            return await super().instantiate()
