"""How long a bid takes from its event to a read_committed consumer of the output, at a steady rate, exactly once.

    python benchmarks/latency.py --seconds 60

Two jobs, one after the other: `pass` writes every bid to the output topic, `window` counts bids per auction and second
(watermark without delay). A bid's event time is the wall clock when it is handed to the producer. Latency: arrival of
a row at a consumer minus its event time, or minus the end of its window. Producer and consumer are processes of their
own; neither they nor the broker count in `cores`, the CPU seconds of the query per second. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from multiprocessing.synchronize import Event
from typing import Any

import bids
import numpy as np
import orjson
from confluent_kafka import Consumer, Producer
from measure import ProcessTree

import microstream as ms
from microstream.testing.kafka import Broker, unique

SPAWN = multiprocessing.get_context("spawn")
TICK_S = 0.002
SCHEMA = {
    "auction": "int64",
    "bidder": "int64",
    "price": "int64",
    "channel": "str",
    "url": "str",
    "dateTime": "epoch[ms]",
    "extra": "str",
}


def per_bid(source: ms.StreamFrame) -> ms.StreamFrame:
    """Every bid as it is."""
    return source


def per_window(source: ms.StreamFrame) -> ms.StreamFrame:
    """Bids per auction and second."""
    return source.groupby("auction").window(ms.tumbling("1s")).size()


JOBS: dict[str, tuple[Callable[[ms.StreamFrame], ms.StreamFrame], str]] = {
    "pass": (per_bid, "dateTime"),
    "window": (per_window, "window_end"),
}


def produce(bootstrap_servers: str, topic: str, rate: int, ended: Event) -> None:
    """`rate` bids per second until `ended`, in order, with the clock as event time."""
    made = bids.bids(0, 20_000).drop("dateTime")
    tails = [value[1:] for value in bids.to_json(made)]
    producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 2, "compression.type": "lz4"})
    sent, began = 0, time.time()
    while not ended.wait(TICK_S):
        now = time.time()
        head = b'{"dateTime":%d,' % int(now * 1000)
        for _ in range(int((now - began) * rate) - sent):
            producer.produce(topic, head + tails[sent % len(tails)], partition=sent % bids.PARTITIONS)
            sent += 1
        producer.poll(0)
    producer.flush()


def consume(bootstrap_servers: str, topic: str, column: str, measuring: Event, ended: Event, answer: Any) -> None:
    """Put the latencies in milliseconds, of the rows that arrive between `measuring` and `ended`, into `answer`."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": topic,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 5,
        }
    )
    consumer.subscribe([topic])
    latencies: list[float] = []
    while not ended.is_set():
        messages = consumer.consume(2_000, 0.005)
        now = time.time()
        if measuring.is_set():
            latencies += [1000 * (now - _seconds(m.value(), column)) for m in messages if m.error() is None]
    consumer.close()
    answer.put(latencies)


def _seconds(record: bytes | None, column: str) -> float:
    return datetime.fromisoformat(orjson.loads(record or b"")[column]).timestamp()


def measure(broker: Broker, job: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """Run one job and its surroundings."""
    build, column = JOBS[job]
    source, target = unique("latency-in"), unique("latency-out")
    for topic in (source, target):
        broker.create_topic(topic, partitions=bids.PARTITIONS)
    measuring, ended, answer = SPAWN.Event(), SPAWN.Event(), SPAWN.Queue()
    servers = broker.bootstrap_servers
    around = [
        SPAWN.Process(target=produce, args=(servers, source, chosen.rate, ended)),
        SPAWN.Process(target=consume, args=(servers, target, column, measuring, ended, answer)),
    ]
    for process in around:
        process.start()
    tree = ProcessTree()
    with tempfile.TemporaryDirectory(prefix="latency-") as checkpoint:
        stream = ms.read_kafka(
            source, bootstrap_servers=servers, schema=SCHEMA, event_time="dateTime", start="earliest"
        )
        trigger = ms.continuously() if chosen.trigger == "continuously" else chosen.trigger
        query = build(stream).to_kafka(target).start(name=job, checkpoint=checkpoint, trigger=trigger)
        query.await_termination(chosen.warm_up)
        before, first_batch = tree.usage(), _batch(query)
        measuring.set()
        query.await_termination(chosen.seconds)
        after, last_batch = tree.usage(), _batch(query)
        ended.set()
        latencies = answer.get()
        for process in around:
            process.join()
        query.stop()
    p50, p95, p99, greatest = (round(float(q), 1) for q in np.percentile(latencies, [50, 95, 99, 100]))
    return {
        "job": job,
        "rate": chosen.rate,
        "trigger": chosen.trigger,
        "rows": len(latencies),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "max_ms": greatest,
        "cores": round((after.cpu_s - before.cpu_s) / chosen.seconds, 2),
        "batches_per_s": round((last_batch - first_batch) / chosen.seconds, 1),
        "rss_mb": round(after.rss_bytes / 1e6),
    }


def _batch(query: ms.StreamingQuery) -> int:
    return -1 if query.last_progress is None else int(query.last_progress["batchId"])


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--rate", type=int, default=10_000, help="bids per second")
    parser.add_argument("--seconds", type=float, default=60, help="of measuring, per job")
    parser.add_argument(
        "--warm-up", type=float, default=40, help="seconds before that, per job: a new JVM compiles for so long"
    )
    parser.add_argument("--trigger", default="50ms", help='an interval, or "continuously", which starts more batches')
    chosen = parser.parse_args(arguments)
    with Broker() as broker:
        results = [measure(broker, job, chosen) for job in chosen.jobs]
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
