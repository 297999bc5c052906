"""What a Dask scheduler and its workers need for streams of small batches that run for months.

Give `--preload microstream.runtime.preload` to `dask scheduler` and to `dask worker`; clusters that microstream starts
itself have it. Without it everything is correct, only slower and slowly leaking.
"""

from __future__ import annotations

import signal
from typing import Any

import dask.config
import distributed.batched
import distributed.scheduler
import distributed.worker

__all__ = ["LOCAL_CONFIG", "dask_setup", "is_prepared", "prepare_scheduler", "prepare_worker"]

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
}

LOCAL = "microstream-local-cluster"
LOCAL_CONFIG: dict[str, Any] = {**RULES, "distributed.worker.preload": ["microstream.runtime.preload"], LOCAL: True}

SEND_INTERVAL_S = 0.001
"""Default 2 to 5 ms at each hop: most of the latency of a small batch."""


class PromptSend(distributed.batched.BatchedSend):  # type: ignore[misc]
    """BatchedSend that waits 1 ms for more messages, not 2 to 10."""

    def __init__(self, interval: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(SEND_INTERVAL_S, *args, **kwargs)


def is_prepared(dask_scheduler: Any) -> bool:
    """Whether a scheduler was started with this preload."""
    return "spans" not in dask_scheduler.extensions


def prepare_scheduler() -> None:
    """Before a scheduler starts in this process."""
    dask.config.set(RULES)
    # Keeps every task group for ever, ~8 KB per batch (dask/distributed#7977); off on both roles or work hangs.
    distributed.scheduler.DEFAULT_EXTENSIONS.pop("spans", None)
    distributed.scheduler.BatchedSend = PromptSend


def prepare_worker() -> None:
    """Before a worker starts in this process."""
    dask.config.set(RULES)
    distributed.worker.DEFAULT_EXTENSIONS.pop("spans", None)
    distributed.worker.BatchedSend = PromptSend


prepare_scheduler()
prepare_worker()


def dask_setup(server: Any) -> None:
    """Called by Dask once the server exists: a worker made its stream before this module was imported."""
    if dask.config.get(LOCAL, False):
        # Ctrl-C reaches every process of the terminal; it is the query's process that ends its workers.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    stream = getattr(server, "batched_stream", None)
    if stream is not None:
        stream.interval = SEND_INTERVAL_S
