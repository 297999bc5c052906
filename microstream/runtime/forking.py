"""Workers of a local cluster are forked from one process that has imported what they need: 0.3 s, not 2 s each.

That process is a fork server as `multiprocessing` has one, but our own: the user's, if there is one, keeps its
imports and its environment. It lives as long as the program, so that a query that is started again, and a worker that
died, are back at once. It runs no query and no thread of ours.
"""

from __future__ import annotations

import io
import multiprocessing.context
import os
import signal
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, popen_forkserver, reduction, resource_tracker, spawn, util
from types import TracebackType
from typing import Any, Final

import dask.config

__all__ = ["ENVIRONMENT", "HEAP", "forked_workers", "keep_variables", "start_forkserver"]

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

_METHOD: Final = "microstream"
"""Name of our way to start processes, among `multiprocessing`'s "fork", "spawn" and "forkserver"."""

_turn = threading.Lock()
_server = forkserver.ForkServer()
_server.set_forkserver_preload(["microstream.runtime.forked"])


def start_forkserver() -> None:
    """Start the process that workers are forked from, unless it runs; it imports while the caller goes on.

    Raises
    ------
    OSError
        The system starts no more processes, or has no room for the socket.
    """
    with _turn:
        chosen = {**_AT_START, **dask.config.get("distributed.nanny.pre-spawn-environ", default={})}
        missing = {name: str(value) for name, value in chosen.items() if value is not None and name not in os.environ}
        os.environ.update(missing)
        try:
            with _ctrl_c_waits():
                _server.ensure_running()
        finally:
            for name in missing:
                del os.environ[name]


def keep_variables(names: Collection[str]) -> None:
    """In a worker that was forked: no more environment variables than `names`."""
    for name in os.environ.keys() - names:
        del os.environ[name]


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Within, this thread, and a process that it starts, are not interrupted, until that process has its own say."""
    resource_tracker.ensure_running()  # what else would start it within would let signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Popen(popen_forkserver.Popen):
    """A process of our fork server, which does not import the user's program."""

    method = _METHOD

    def _launch(self, process_obj: Any) -> None:
        told = {key: value for key, value in spawn.get_preparation_data(process_obj.name).items() if "main" not in key}
        message = io.BytesIO()
        multiprocessing.context.set_spawning_popen(self)
        try:
            reduction.dump(told, message)
            reduction.dump(process_obj, message)
        finally:
            multiprocessing.context.set_spawning_popen(None)
        start_forkserver()
        self.sentinel, pipe = _server.connect_to_new_process(self._fds)  # type: ignore[attr-defined]
        # As long as this end is open, the process knows that we live.
        alive = os.dup(pipe)
        self.finalizer = util.Finalize(self, util.close_fds, (alive, self.sentinel))  # type: ignore[attr-defined]
        with open(pipe, "wb") as to_process:
            to_process.write(message.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


class _Process(multiprocessing.context.ForkServerProcess):
    _start_method = _METHOD

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - multiprocessing asks for it
        return _Popen(process_obj)


class _Context(multiprocessing.context.ForkServerContext):
    _name = _METHOD
    Process = _Process


multiprocessing.context._concrete_contexts[_METHOD] = _Context()  # type: ignore[attr-defined]


class _ForkedWorkers:
    """Within, processes that Dask starts are ours; several may be within at the same time, and overlap."""

    def __init__(self) -> None:
        self._lock, self._within = threading.Lock(), 0
        self._chosen: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._within:
                self._chosen = dask.config.set({"distributed.worker.multiprocessing-method": _METHOD})
                self._chosen.__enter__()
            self._within += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                self._chosen.__exit__(None, None, None)


forked_workers: Final = _ForkedWorkers()
