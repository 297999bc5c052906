"""Signals, as a terminal and a supervisor send them, to scripts that wait for their queries."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from microstream.checkpoint.commit import head
from microstream.checkpoint.local import LocalStore
from microstream.checkpoint.manifest import Kind

SCRIPT = Path(__file__).with_name("waiting_app.py")
PATIENCE_S = 60


@contextmanager
def waiting_script(checkpoint: Path) -> Iterator[subprocess.Popen[str]]:
    """The script, in a process group of its own, once its query has committed batches."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(checkpoint)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        assert first == "working\n", first + process.stderr.read()
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_sigterm_stops_the_query_in_order_and_the_script_goes_on(tmp_path: Path) -> None:
    with waiting_script(tmp_path / "checkpoint") as process:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE_S)

    last = head(LocalStore(tmp_path / "checkpoint"))
    assert (process.returncode, out) == (0, "ended stopped\n"), err
    assert "SIGTERM: finishing and publishing" in err
    assert last is not None
    assert last.kind is Kind.STOP
    assert all(sink.pending == () for sink in last.sinks)


def test_ctrl_c_stops_the_query_in_order_and_ends_the_script(tmp_path: Path) -> None:
    with waiting_script(tmp_path / "checkpoint") as process:
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)

    last = head(LocalStore(tmp_path / "checkpoint"))
    assert (process.returncode, out) == (-signal.SIGINT, "")
    assert "Ctrl-C: finishing and publishing" in err
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert last is not None
    assert last.kind is Kind.STOP
    assert all(sink.pending == () for sink in last.sinks)
