"""Processes under test: runs of the programs beside this file, and a Dask cluster as a user would start it by hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

__all__ = ["BareCluster", "Program", "until"]

APP = Path(__file__).with_name("app.py")
PATIENCE_S = 120.0
LOOK_S = 0.005


def until(condition: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Return as soon as `condition()` holds; an AssertionError that names `what` after `timeout_s`."""
    rest, deadline = threading.Event(), time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:.0f} s in vain for {what}"
        rest.wait(LOOK_S)


class Program:
    """One run of `app`; its output goes to `log`."""

    def __init__(self, arguments: Sequence[str], log: Path, app: Path = APP) -> None:
        self._log = log
        self._process = _spawn([str(app), *arguments], log)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; -9 after SIGKILL."""
        return self._process.poll()

    def kill(self) -> None:
        """End it as a power failure would. Its workers have to notice by themselves."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def ask_to_stop(self) -> None:
        self._process.terminate()

    def workers(self) -> list[psutil.Process]:
        """Worker processes of its local cluster that run now."""
        try:
            # They are forked from a child of the program.
            helpers = psutil.Process(self.pid).children()
            return [worker for helper in helpers for worker in helper.children()]
        except psutil.Error:
            return []

    def last_words(self, chars: int = 3_000) -> str:
        """The end of its output."""
        return self._log.read_text(errors="replace")[-chars:]


class BareCluster:
    """`dask scheduler` and `dask worker`s, without our preload and without nannies; a context manager."""

    def __init__(self, folder: Path, workers: int) -> None:
        self._folder = folder
        self._scheduler_file = folder / "scheduler.json"
        where = ["--scheduler-file", str(self._scheduler_file)]
        self._scheduler = _spawn(
            ["-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *where],
            folder / "scheduler.log",
        )
        self._started = 0
        self._workers: list[subprocess.Popen[bytes]] = []
        try:
            until(lambda: "address" in self._identity(), "the scheduler to write its file")
            self.address: str = self._identity()["address"]
            for _ in range(workers):
                self._add_worker()
        except BaseException:
            self.close()
            raise

    def replace_worker(self, number: int) -> None:
        """Kill a worker, and start another one."""
        worker = self._workers.pop(number % len(self._workers))
        worker.kill()
        worker.wait()
        self._add_worker()

    def close(self) -> None:
        for process in (*self._workers, self._scheduler):
            process.kill()
            process.wait()

    def __enter__(self) -> BareCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _identity(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._scheduler_file.read_text()))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}

    def _add_worker(self) -> None:
        self._started += 1
        name = f"worker-{self._started}"
        options = ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--death-timeout", "30"]
        places = ["--scheduler-file", str(self._scheduler_file), "--local-directory", str(self._folder / name)]
        self._workers.append(
            _spawn(["-m", "dask", "worker", *options, "--name", name, *places], self._folder / f"{name}.log")
        )


def _spawn(arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "error"},
        )
