from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from microstream.testing.kafka import Broker, wait_until

COMMAND = (sys.executable, "-m", "microstream.testing.broker", "--port")


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def brokers_below(folder: Path) -> list[str]:
    """Command lines of Java processes whose settings are below `folder`."""
    lines = []
    for process in Path("/proc").iterdir():
        try:
            lines.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it is no process, or has ended
            continue
    return [line for line in lines if "kafka.Kafka" in line and str(folder) in line]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGHUP])
def test_a_broker_for_a_terminal_ends_with_it(how: signal.Signals, broker: Broker, tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [*COMMAND, str(port)], stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert process.stdout is not None
    process.stdout.readline()
    assert process.stdout.readline().startswith(f"Kafka answers at 127.0.0.1:{port}")
    assert len(brokers_below(tmp_path)) == 1

    process.send_signal(how)

    assert process.wait(60) == 0
    wait_until(lambda: not brokers_below(tmp_path), "the broker to be gone")
    assert list(tmp_path.glob("microstream-kafka-*")) == []


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = subprocess.run([*COMMAND, str(port)], capture_output=True, text=True, timeout=60)

    assert done.returncode == 1
    assert f"port {port} of localhost: Address already in use" in done.stderr
