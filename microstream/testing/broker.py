"""A real Kafka for a terminal: `python -m microstream.testing.broker` runs one until Ctrl-C, and leaves nothing.

Needs Java 17 and, the first time, Maven, which fetches Apache's jars (see `microstream.testing.kafka`).
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from types import FrameType

from microstream.testing.kafka import Broker, NoBrokerError

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Start a broker, print its address, and end it with this process: by Ctrl-C, SIGTERM or the terminal's end."""
    options = argparse.ArgumentParser(prog="python -m microstream.testing.broker", description=__doc__.split("\n")[0])
    options.add_argument("--port", type=int, default=9092, help="of localhost, where it answers")
    chosen = options.parse_args(arguments)
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _leave)
    _require_free(chosen.port)
    print("starting Kafka; the first time its jars are fetched, which takes a minute ...", flush=True)
    try:
        with Broker(own=True, port=chosen.port) as broker:
            print(f"Kafka answers at {broker.bootstrap_servers}; its topics are gone after Ctrl-C", flush=True)
            while True:
                signal.pause()
    except NoBrokerError as problem:
        sys.exit(str(problem))


def _leave(number: int, _: FrameType | None) -> None:
    # Once only: a second one would leave the broker behind that the first is ending.
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_IGN)
    sys.exit(0)


def _require_free(port: int) -> None:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError as problem:
            sys.exit(f"port {port} of localhost: {problem.strerror}. Stop what uses it, or choose another with --port.")


if __name__ == "__main__":
    main(sys.argv[1:])
