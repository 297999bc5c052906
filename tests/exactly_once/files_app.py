"""The program under test, as a user would write it: a folder of JSON lines to a Parquet folder, exactly once.

SIGTERM stops the query in order. An error of the query is the last line of stderr, and the exit code 1.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading

import dask

import microstream as ms

MAX_RECORDS = 2_000
"""Small enough that a file takes several batches."""


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--table", required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--every", default=None, help="how long rows are held before they are written")
    return parser.parse_args(argv)


def start(args: argparse.Namespace) -> ms.StreamingQuery:
    rows = ms.read_files(args.folder, format="json", schema={"n": "int64", "odd": "bool"}, watch=True, name="rows")
    return ms.start(
        rows.to_parquet(args.table, partition_cols="odd", every=args.every, name="table"),
        name="files",
        checkpoint=args.checkpoint,
        trigger=ms.continuously(),
        lanes=2,
        max_records=MAX_RECORDS,
    )


def main(argv: list[str]) -> None:
    asked_to_stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked_to_stop.set())
    dask.config.set({"microstream.workers": 2})
    try:
        query = start(parse(argv))
        while not query.await_termination(0.1):
            if asked_to_stop.is_set():
                query.stop()
    except ms.MicrostreamError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
