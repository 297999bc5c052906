"""What a Dask scheduler and its workers need for streams of small batches that run for months.

Give `--preload microstream.runtime.preload` to `dask scheduler` and to `dask worker`; clusters that microstream starts
itself have it. Without it everything is correct, only slower and slowly leaking. Importing this module changes Dask for
the whole process, so nothing but Dask imports it.
"""

from __future__ import annotations

import signal
from contextlib import ExitStack
from typing import Any

import dask.config

from microstream.runtime.forking import ENVIRONMENT, keep_variables
from microstream.runtime.pauses import short_pauses
from microstream.runtime.tuning import LOCAL, SEND_INTERVAL_S, prepare_scheduler, prepare_worker

__all__ = ["dask_setup"]


prepare_scheduler()
prepare_worker()
as_long_as_it_lives = ExitStack()
as_long_as_it_lives.enter_context(short_pauses())


def dask_setup(server: Any) -> None:
    """Called by Dask once the server exists: a worker made its stream before this module was imported."""
    if dask.config.get(LOCAL, False):
        # Ctrl-C reaches every process of the terminal; it is the query's process that ends its workers.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        keep_variables(dask.config.get(ENVIRONMENT))
    stream = getattr(server, "batched_stream", None)
    if stream is not None:
        stream.interval = SEND_INTERVAL_S
