"""The program under test, as a user would write it: bids from Kafka to three topics, exactly once.

SIGTERM stops the query in order. An error of the query is the last line of stderr, and the exit code 1.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading

import dask
import numpy as np
import pandas as pd

import microstream as ms

SCHEMA = {"auction": "int64", "price": "int64", "dateTime": "epoch[ms]"}
LOTS = 50
TRIGGERS = {"continuously": ms.continuously, "available_now": ms.available_now}


def draw_lots(batch: pd.DataFrame) -> pd.Series:
    """A key that is different each time it is asked for, as that of a model call would be."""
    return pd.Series(np.random.default_rng().integers(0, LOTS, len(batch)))


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--out2", required=True)
    parser.add_argument("--out3", required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--max-records", type=int, default=None)
    parser.add_argument("--cluster", default="local", help="address of a scheduler")
    parser.add_argument("--trigger", default="continuously", choices=TRIGGERS)
    parser.add_argument("--nondeterministic", action="store_true")
    parser.add_argument("--takeover", action="store_true")
    return parser.parse_args(argv)


def start(args: argparse.Namespace) -> ms.StreamingQuery:
    bids = ms.read_kafka(
        args.topic,
        bootstrap_servers=args.bootstrap,
        schema=SCHEMA,
        event_time="dateTime",
        watermark="2s",
        idle_timeout=None,
        start="earliest",
    )
    key = "auction"
    if args.nondeterministic:
        key = "lot"
        bids = bids.assign(lot=draw_lots)
    counts = (
        bids.groupby(key)
        .window(ms.tumbling("10s"))
        .agg(n=("price", "size"), total=("price", "sum"), top=("price", "max"))
        .named("counts")
    )
    busiest = counts.window(ms.tumbling("1min")).agg(most=("n", "max"), all=("n", "sum")).named("busiest")
    paid = bids[bids["price"] > 0]
    totals = paid.groupby(key).agg(n=("price", "size"), total=("price", "sum"), top=("price", "max")).named("totals")
    return ms.start(
        counts.to_kafka(args.out, key=key, name="out"),
        busiest.to_kafka(args.out2, name="out2"),
        totals.to_kafka(args.out3, key=key, name="out3"),
        name="bids",
        checkpoint=args.checkpoint,
        trigger=TRIGGERS[args.trigger](),
        lanes=args.lanes,
        max_records=args.max_records,
        client=None if args.cluster == "local" else args.cluster,
        takeover=args.takeover,
    )


def main(argv: list[str]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    asked_to_stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked_to_stop.set())
    args = parse(argv)
    dask.config.set({"microstream.workers": 2})
    try:
        query = start(args)
        while not query.await_termination(0.1):
            if asked_to_stop.is_set():
                query.stop()
    except ms.MicrostreamError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
