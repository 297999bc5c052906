"""A driver in a process of its own: copies clicks from one topic to another until its standard input ends.

It prints "started" once it owns its checkpoint. What ends the query is the last line of stderr, with exit code 1.
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading

import microstream as ms

SCHEMA = {"user": "str", "n": "int64", "at": "timestamp[ms]"}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--bootstrap", "--source", "--sink", "--checkpoint", "--scheduler"):
        parser.add_argument(name, required=True)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(name)s %(levelname)s %(message)s")
    rows = ms.read_kafka(
        args.source, bootstrap_servers=args.bootstrap, schema=SCHEMA, event_time="at", start="earliest"
    )
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    try:
        query = ms.start(
            rows.to_kafka(args.sink),
            name="copy",
            checkpoint=args.checkpoint,
            trigger=ms.continuously(),
            client=args.scheduler,
        )
        print("started", flush=True)
        while not query.await_termination(0.05):
            if stop.is_set():
                query.stop()
    except ms.MicrostreamError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
