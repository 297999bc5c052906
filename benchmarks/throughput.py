"""How fast a backlog is worked off: bids in Kafka -> count and sum per auction and 10 s window -> Kafka, exactly once.

    python benchmarks/throughput.py --bids 8000000
    python benchmarks/throughput.py --query running   # per auction, of all bids until now: update mode

Starts a broker (or uses MICROSTREAM_TEST_KAFKA), fills a topic of 4 partitions, runs the query until everything is
committed and published, compares what a read_committed consumer sees with the same totals computed by polars, and
prints JSON. The broker's CPU and memory are not counted. `slope` leaves start-up out: from a quarter of the bids to
the end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bids
import dask.config
import polars as pl
from measure import ProcessTree, Sampler, Usage

import microstream as ms
from microstream.testing.kafka import Broker, consume_all, unique

WINDOW_MS = 10_000
WATERMARK_MS = 4_000
SAMPLE_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """How far the query is after `at_s` seconds."""

    at_s: float
    records: int
    batches: int
    usage: Usage


def totals(bootstrap_servers: str, topic: str, *, running: bool = False) -> ms.StreamFrame:
    """The query: three of seven fields are read."""
    source = ms.read_kafka(
        topic,
        bootstrap_servers=bootstrap_servers,
        schema={"auction": "int64", "price": "int64", "dateTime": "epoch[ms]"},
        event_time="dateTime",
        watermark=f"{WATERMARK_MS}ms",
        start="earliest",
    )
    by_auction = source.groupby("auction")
    groups = by_auction if running else by_auction.window(ms.tumbling(f"{WINDOW_MS}ms"))
    return groups.agg(n=("price", "size"), total=("price", "sum"))


def work_off(frame: ms.StreamFrame, target: str, lanes: int, key: str | None = None) -> list[Point]:
    """Run the query `frame` to topic `target` over the whole backlog; the last point is its end."""
    points: list[Point] = []
    tree, began = ProcessTree(), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="throughput-") as checkpoint:
        sink = frame.to_kafka(target, key=key, config={"compression.type": "lz4"})
        # Two processes per core: while one waits for the broker or for the other lanes, another has work.
        with dask.config.set({"microstream.workers": lanes}):
            query = ms.start(sink, name="throughput", checkpoint=checkpoint, trigger=ms.continuously(), lanes=lanes)

        def look() -> None:
            at_s = time.perf_counter() - began
            progress = query.last_progress
            points.append(
                Point(
                    at_s=at_s,
                    records=_records(progress),
                    batches=0 if progress is None else progress["batchId"] + 1,
                    usage=tree.usage(),
                )
            )

        with Sampler(look, SAMPLE_S):
            query.process_all_available()
        look()
        query.stop()
    return points


def _records(progress: dict[str, Any] | None) -> int:
    return 0 if progress is None else sum(sum(source["endOffset"].values()) for source in progress["sources"])


def figures(points: list[Point]) -> dict[str, Any]:
    """The run in numbers."""
    end = points[-1]
    quarter = next(point for point in points if point.records >= end.records / 4)
    records, seconds = end.records - quarter.records, end.at_s - quarter.at_s
    cpu_s = end.usage.cpu_s - quarter.usage.cpu_s
    return {
        "records": end.records,
        "batches": end.batches,
        "seconds": round(end.at_s, 2),
        "records_per_s": round(end.records / end.at_s),
        "slope_records_per_s": round(records / seconds) if records else None,
        "records_per_cpu_s": round(end.records / end.usage.cpu_s),
        "slope_records_per_cpu_s": round(records / cpu_s) if records else None,
        "peak_rss_mb": round(max(point.usage.rss_bytes for point in points) / 1e6),
    }


def emitted(broker: Broker, topic: str) -> pl.DataFrame:
    """What a read_committed consumer sees, in the form of `bids.expected_totals`."""
    rows = _rows(broker, topic)
    end = pl.col("window_end").str.to_datetime(time_zone="UTC").dt.epoch("ms")
    return rows.select("auction", end.alias("end_ms"), "n", "total").sort("auction", "end_ms")


def newest(broker: Broker, topic: str) -> pl.DataFrame:
    """The last record of each auction, in the form of `bids.expected_running_totals`."""
    last = _rows(broker, topic).unique("auction", keep="last", maintain_order=True)
    return last.select("auction", "n", "total").sort("auction")


def _rows(broker: Broker, topic: str) -> pl.DataFrame:
    return pl.read_ndjson(b"\n".join(record.value or b"" for record in consume_all(broker, topic)))


def main(arguments: list[str]) -> int:
    """Run, check, print; 1 if the result is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bids", type=int, default=8_000_000)
    parser.add_argument("--query", choices=("windows", "running"), default="windows")
    parser.add_argument("--lanes", type=int, default=4, help="lanes, each in a process of its own")
    chosen = parser.parse_args(arguments)
    with Broker() as broker:
        source, target = unique("bids"), unique("totals")
        broker.create_topic(source, partitions=bids.PARTITIONS)
        broker.create_topic(target, partitions=bids.PARTITIONS)
        generator = [sys.executable, str(Path(__file__).with_name("bids.py"))]
        place = ["--kafka", broker.bootstrap_servers, "--topic", source]
        subprocess.run([*generator, "--bids", str(chosen.bids), *place], check=True)
        running = chosen.query == "running"
        frame = totals(broker.bootstrap_servers, source, running=running)
        result = figures(work_off(frame, target, chosen.lanes, "auction" if running else None))
        found = newest(broker, target) if running else emitted(broker, target)
    if running:
        expected = bids.expected_running_totals(chosen.bids)
    else:
        expected = bids.expected_totals(chosen.bids, window_ms=WINDOW_MS, watermark_ms=WATERMARK_MS)
    right = found.equals(expected) and result["records"] == chosen.bids
    print(json.dumps({**result, "rows": len(found), "rows_expected": len(expected), "equal": right}, indent=2))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
