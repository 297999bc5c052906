"""A script as users write it: starts a query and waits for it. Says "working" once batches are committed."""

from __future__ import annotations

import sys
import threading

import dask

import microstream as ms
from microstream.testing.demo import TOPIC, BidStream, totals
from microstream.testing.inprocess import InProcessBroker


def say_when_it_works(query: ms.StreamingQuery) -> None:
    while (query.last_progress or {"batchId": -1})["batchId"] < 2:
        if query.await_termination(0.02):
            return
    print("working", flush=True)


def main(checkpoint: str) -> None:
    dask.config.set({"microstream.workers": 1})
    with InProcessBroker() as broker:
        broker.create_topic(TOPIC)
        bids = ms.read_kafka(
            TOPIC,
            bootstrap_servers=broker.bootstrap_servers,
            schema={"auction": "int64", "price": "int64", "ts": "epoch[ms]"},
            event_time="ts",
            watermark="1s",
            start="earliest",
        )
        stream = BidStream(broker.bootstrap_servers, seconds=60)
        stream.start()
        query = totals(bids).to_memory().start(name="waiting", checkpoint=checkpoint, trigger="100ms")
        threading.Thread(target=say_when_it_works, args=(query,), daemon=True).start()
        query.await_termination()
        print(f"ended {query.status}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
