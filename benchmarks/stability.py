"""Whether memory stays flat: thousands of small batches with busy and idle phases, and the memory of each process.

    python benchmarks/stability.py --batches 3000

Bids come for ten seconds and stay away for five, a batch every 100 ms, one window count to Kafka exactly once, on a
scheduler and two workers that are processes of their own. Prints the course of resident memory per process, its
growth after the first 500 batches, and JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import bids
import numpy as np
import psutil
from confluent_kafka import Producer
from latency import SPAWN
from measure import sparkline

import microstream as ms
from microstream.testing.kafka import Broker, unique

WARM_UP_BATCHES = 500
BUSY_S, IDLE_S = 10.0, 5.0
TICK_S = 0.01
SAMPLE_S = 0.5
PRELOAD = ["--preload", "microstream.runtime.preload"]
Curves = dict[str, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Resident MB of each process, and the batches that were done, sample by sample."""

    batches: list[int]
    rss_mb: Curves


def produce(bootstrap_servers: str, topic: str, rate: int, ended: Event) -> None:
    """`rate` bids per second in busy phases, none in idle ones, until `ended`."""
    tails = [value[1:] for value in bids.to_json(bids.bids(0, 20_000).drop("dateTime"))]
    producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 2})
    sent, began = 0, time.time()
    while not ended.wait(TICK_S):
        now = time.time()
        if (now - began) % (BUSY_S + IDLE_S) > BUSY_S:
            continue
        head = b'{"dateTime":%d,' % int(now * 1000)
        for _ in range(int(rate * TICK_S)):
            producer.produce(topic, head + tails[sent % len(tails)], partition=sent % bids.PARTITIONS)
            sent += 1
        producer.poll(0)
    producer.flush()


@contextmanager
def cluster(workers: int) -> Iterator[tuple[str, dict[str, psutil.Process]]]:
    """Address of a scheduler with `workers` workers, and their processes."""
    with tempfile.TemporaryDirectory(prefix="stability-") as folder, ExitStack() as stack:
        file = Path(folder, "scheduler.json")
        where = ["--scheduler-file", str(file)]

        def begin(role: str, *options: str) -> psutil.Process:
            command = [sys.executable, "-m", "dask", role, *where, *PRELOAD, *options]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return psutil.Process(process.pid)

        found = {"scheduler": begin("scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1")}
        for number in range(workers):
            options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", folder)
            found[f"worker {number}"] = begin("worker", *options)
        while not file.exists():
            time.sleep(0.1)
        yield json.loads(file.read_text())["address"], found


def watch(query: ms.StreamingQuery, processes: dict[str, psutil.Process], batches: int) -> Course:
    """Sample until `batches` are done. Raises what ended the query before."""
    course = Course(batches=[], rss_mb={role: [] for role in processes})
    while not course.batches or course.batches[-1] < batches:
        query.await_termination(SAMPLE_S)
        if query.last_progress is None:
            continue
        course.batches.append(query.last_progress["batchId"] + 1)
        for role, process in processes.items():
            course.rss_mb[role].append(process.memory_info().rss / 1e6)
    return course


def judge(course: Course) -> dict[str, Any]:
    """Memory at the end of warm-up and at the end, and the slope of a straight line between them."""
    batches = np.array(course.batches)
    settled = batches >= min(WARM_UP_BATCHES, batches[-1] // 2)
    result: dict[str, Any] = {"batches": int(batches[-1])}
    for role, curve in course.rss_mb.items():
        rss = np.array(curve)[settled]
        slope = float(np.polyfit(batches[settled], rss, 1)[0])
        result[role] = {
            "settled_mb": round(float(rss[0]), 1),
            "last_mb": round(float(rss[-1]), 1),
            "peak_mb": round(float(max(curve)), 1),
            "growth_mb_per_1000_batches": round(1000 * slope, 2),
        }
    return result


def main(arguments: list[str]) -> None:
    """Run, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=3_000)
    parser.add_argument("--rate", type=int, default=2_000, help="bids per second in busy phases")
    parser.add_argument("--interval", default="100ms")
    chosen = parser.parse_args(arguments)
    source, target = unique("stability-in"), unique("stability-out")
    with ExitStack() as stack:
        broker = stack.enter_context(Broker())
        checkpoint = stack.enter_context(tempfile.TemporaryDirectory(prefix="stability-"))
        address, processes = stack.enter_context(cluster(workers=2))
        for topic in (source, target):
            broker.create_topic(topic, partitions=bids.PARTITIONS)
        ended = SPAWN.Event()
        producer = SPAWN.Process(target=produce, args=(broker.bootstrap_servers, source, chosen.rate, ended))
        producer.start()
        stream = ms.read_kafka(
            source,
            bootstrap_servers=broker.bootstrap_servers,
            schema={"auction": "int64", "dateTime": "epoch[ms]"},
            event_time="dateTime",
            watermark="1s",
        )
        counts = stream.groupby("auction").window(ms.tumbling("1s")).size()
        query = counts.to_kafka(target).start(
            name="stability", checkpoint=checkpoint, trigger=chosen.interval, client=address
        )
        course = watch(query, {**processes, "driver": psutil.Process()}, chosen.batches)
        ended.set()
        producer.join()
        query.stop()
    for role, curve in course.rss_mb.items():
        print(f"{role:>10} {sparkline(curve)} {curve[0]:.0f} -> {curve[-1]:.0f} MB")
    print(json.dumps(judge(course), indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
