"""How Dask is tuned for streams of small batches that run for months. Importing this module changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask.config
import distributed.batched
import distributed.scheduler
import distributed.worker

from microstream.runtime.forking import HEAP

__all__ = [
    "LOCAL",
    "LOCAL_CONFIG",
    "SEND_INTERVAL_S",
    "is_prepared",
    "prepare_scheduler",
    "prepare_worker",
    "scheduler_prepared",
]

RULES: dict[str, Any] = {
    # Pinned tasks may be moved by stealing, which can dead-lock (dask/distributed#8787).
    "distributed.scheduler.work-stealing": False,
    # Each worker keeps a log entry per state transition: 1,000 by default.
    "distributed.admin.low-level-log-length": 100,
    "distributed.diagnostics.computations.max-history": 10,
    # A worker that hangs without closing its connection.
    "distributed.scheduler.worker-ttl": "30s",
    # Samples all threads 100 times a second.
    "distributed.worker.profile.enabled": False,
    # Every worker, nanny and scheduler looks at itself up to 50 times a second, which costs more than an idle query.
    "distributed.admin.tick.interval": "100ms",
    "distributed.admin.system-monitor.interval": "2s",
    "distributed.admin.system-monitor.disk": False,
    "distributed.worker.memory.monitor-interval": "500ms",
    # Publications go through the scheduler where workers are out of the driver's reach: not with a connection each.
    "distributed.scheduler.reuse-broadcast-comm": True,
}

LOCAL = "microstream-local-cluster"
LOCAL_CONFIG: dict[str, Any] = {
    **RULES,
    "distributed.worker.preload": ["microstream.runtime.preload"],
    LOCAL: True,
    # Who has set this wants clusters closed that have no tasks: a query that calls its workers has none.
    "distributed.scheduler.idle-timeout": None,
    **{f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in HEAP.items()},
}

SEND_INTERVAL_S = 0.001
"""Default 2 to 5 ms at each hop: most of the latency of a small batch."""


SWITCH_S = 0.002


class PromptSend(distributed.batched.BatchedSend):  # type: ignore[misc]
    """BatchedSend that waits 1 ms for more messages, not 2 to 10."""

    def __init__(self, interval: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(SEND_INTERVAL_S, *args, **kwargs)


def is_prepared(dask_scheduler: Any) -> bool:
    """Whether a scheduler was started with this preload."""
    return "spans" not in dask_scheduler.extensions


@contextmanager
def scheduler_prepared() -> Iterator[None]:
    """While a scheduler of ours starts in the process of a user, who may start others.

    A scheduler without `spans` loses all workers that have it: they must not be missing from the next one.
    """
    spans = distributed.scheduler.DEFAULT_EXTENSIONS.pop("spans", None)
    distributed.scheduler.BatchedSend = PromptSend
    try:
        with dask.config.set(LOCAL_CONFIG):
            yield
    finally:
        if spans is not None:
            distributed.scheduler.DEFAULT_EXTENSIONS["spans"] = spans


def prepare_scheduler() -> None:
    """Before a scheduler starts in this process, which is its alone."""
    dask.config.set(RULES)
    # Keeps every task group for ever, ~8 KB per batch (dask/distributed#7977); off on both roles or work hangs.
    distributed.scheduler.DEFAULT_EXTENSIONS.pop("spans", None)
    distributed.scheduler.BatchedSend = PromptSend


def prepare_worker() -> None:
    """Before a worker starts in this process, which is its alone."""
    dask.config.set(RULES)
    # Default 5 ms: so long a thread that decodes or produces records would let each message of Dask's wait.
    sys.setswitchinterval(SWITCH_S)
    distributed.worker.DEFAULT_EXTENSIONS.pop("spans", None)
    distributed.worker.BatchedSend = PromptSend
