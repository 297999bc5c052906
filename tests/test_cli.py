from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

COMMAND = [str(Path(sys.executable).with_name("microstream"))]
TIMEOUT_S = 120
ENDED_BY_USER = 130


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@contextmanager
def on_terminal(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Iterator[bytes]]]:
    """The command on a terminal of its own, in a process group of its own, and what it writes, piece by piece."""
    ours, theirs = pty.openpty()
    size = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "50"}
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=size
    )
    os.close(theirs)
    try:
        yield process, pieces(ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def pieces(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            piece = os.read(terminal, 65_536)
        except OSError:  # how Linux reports that nobody has the other end open any more
            return
        if not piece:
            return
        yield piece


def plain(written: bytes) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode())


def test_help_names_the_commands() -> None:
    result = run("--help")

    assert result.returncode == 0
    assert "demo" in result.stdout


def test_version_is_that_of_the_package() -> None:
    result = run("--version")

    assert re.fullmatch(r"microstream \d+\.\d+\.\d+\n", result.stdout)


def test_an_unknown_command_is_refused() -> None:
    result = run("dmeo")

    assert result.returncode == 2
    assert "dmeo" in result.stderr


def test_help_does_not_wait_for_pandas_arrow_and_dask() -> None:
    heavy = "{'pandas', 'pyarrow', 'polars', 'dask', 'distributed', 'confluent_kafka', 'rich', 'importlib.metadata'}"
    program = f"import sys, microstream.cli; print(sorted({heavy} & set(sys.modules)))"

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT_S)

    assert result.stdout == "[]\n"


def test_importing_microstream_imports_nothing_heavy_before_a_name_is_used() -> None:
    heavy = "{'pandas', 'pyarrow', 'polars', 'dask', 'distributed', 'confluent_kafka', 'cloudpickle', 'typer'}"
    program = f"import sys, microstream; print(sorted({heavy} & set(sys.modules)))"

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT_S)

    assert result.stdout == "[]\n"


def test_looking_at_a_checkpoint_needs_neither_kafka_nor_a_cluster() -> None:
    heavy = "{'polars', 'distributed', 'confluent_kafka'}"
    program = f"import sys, microstream.runtime.opened; print(sorted({heavy} & set(sys.modules)))"

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT_S)

    assert result.stdout == "[]\n"


def test_the_demo_shows_closed_windows_that_pandas_agrees_with() -> None:
    result = run("demo", "--seconds", "7")

    assert result.returncode == 0, result.stdout + result.stderr
    assert "closed windows" in result.stdout
    assert "equal to what pandas computes" in result.stdout
    assert "Next:" in result.stdout
    assert "\x1b" not in result.stdout


def test_the_demo_draws_over_itself_on_a_terminal() -> None:
    with on_terminal("demo", "--seconds", "7") as (process, written):
        shown = b"".join(written)
        status = process.wait(TIMEOUT_S)

    assert status == 0, plain(shown)
    assert b"\x1b[1A" in shown or b"\x1b[2K" in shown
    assert "equal to what pandas computes" in plain(shown)


def test_the_demo_ends_in_order_at_ctrl_c() -> None:
    shown = b""
    interrupted = False
    with on_terminal("demo", "--seconds", "30") as (process, written):
        for piece in written:
            shown += piece
            if b"watermark" in shown and not interrupted:
                os.killpg(process.pid, signal.SIGINT)
                interrupted = True
        status = process.wait(TIMEOUT_S)

    assert status == ENDED_BY_USER, plain(shown)
    assert plain(shown).endswith("Stopped.\r\n")
    assert "Traceback" not in plain(shown)


@pytest.mark.parametrize("seconds", ["0", "31", "soon"])
def test_the_demo_has_a_length_that_its_broker_can_hold(seconds: str) -> None:
    result = run("demo", "--seconds", seconds)

    assert result.returncode == 2
    assert "--seconds" in result.stderr
