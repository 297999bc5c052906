"""Workers of a local cluster are forked from one process that has imported what they need: 0.3 s, not 2 s each.

That process is `multiprocessing`'s fork server. It lives as long as the program, so that a query that is started again,
and a worker that died, are back at once. It runs no query and no thread of ours.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection
from multiprocessing import forkserver, set_forkserver_preload
from typing import Final

import dask.config

__all__ = ["ENVIRONMENT", "HEAP", "keep_variables", "start_forkserver"]

ENVIRONMENT: Final = "microstream-environment"
"""Key of Dask's configuration: the names of a worker's environment variables."""

# Dask lets glibc hand every free 64 KB back. A batch takes and frees the same tens of megabytes as the one before: page
# faults were a quarter of the CPU time of reading.
HEAP: Final = {"MALLOC_TRIM_THRESHOLD_": 128 << 20, "MALLOC_MMAP_THRESHOLD_": 32 << 20}
"""Variables that glibc reads when a process starts, and never again; it accepts no more than the latter."""

_AT_START: Final = {
    **HEAP,
    "OMP_NUM_THREADS": 1,
    "MKL_NUM_THREADS": 1,
    "OPENBLAS_NUM_THREADS": 1,
    "PYTHONHASHSEED": 6640,
}
"""`HEAP`, and what Dask sets for the processes of workers."""

_turn = threading.Lock()


def start_forkserver() -> None:
    """Start the process that workers are forked from, unless it runs; it imports while the caller goes on."""
    with _turn:
        set_forkserver_preload(["microstream.runtime.forked"])
        chosen = {**_AT_START, **dask.config.get("distributed.nanny.pre-spawn-environ", default={})}
        missing = {name: str(value) for name, value in chosen.items() if value is not None and name not in os.environ}
        os.environ.update(missing)
        try:
            forkserver.ensure_running()
        finally:
            for name in missing:
                del os.environ[name]


def keep_variables(names: Collection[str]) -> None:
    """In a worker that was forked: no more environment variables than `names`."""
    for name in os.environ.keys() - names:
        del os.environ[name]
