"""How fast a core folds rows into groups: each aggregate, in windows and without. No Dask, no Kafka.

    python benchmarks/operators.py --aggregates sum,list --every 60,1
    python benchmarks/operators.py --aggregates sum --every never --keys 1000000
    python benchmarks/operators.py --aggregates sum --mode update

A stream of batches, one second of event time each, in any order within the last ten seconds. Per batch: rows become
partials by key and window (`update`), partials enter the state of one lane, and what the output mode asks for becomes
rows (`state`). `--every never` aggregates without a window.
CPU seconds, so that other work on the machine disturbs little. Prints JSON, one line per aggregate and window.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from microstream.checkpoint.memory import MemoryStore
from microstream.clock import BEGINNING_US
from microstream.operators.aggregate import partial
from microstream.operators.order import Places, partition_text
from microstream.operators.rows import Rows
from microstream.operators.window import split_late
from microstream.plan.nodes import (
    TIME,
    Aggregate,
    RunningAggregate,
    Sliding,
    Source,
    Stateful,
    Tumbling,
    WindowAggregate,
)
from microstream.plan.specs import OutputMode
from microstream.runtime.lane_state import advance, emitted, loaded

SECOND_US = 1_000_000
DELAY_S = 10
HOWS = ("size", "count", "sum", "min", "max", "mean", "std", "any", "first", "last", "list", "nunique")
FIELDS: list[Any] = [("key", pa.int64()), ("value", pa.float64()), ("kind", pa.int64()), ("at", TIME)]
SCHEMA = pa.schema(FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Where the rows of the plan seem to come from."""

    kind: str = "benchmark"
    target: str = "stream"
    finite: bool = True


def batches(count: int, rows: int, keys: int) -> Iterator[tuple[Rows, Places]]:
    """`count` batches of one second, from four partitions."""
    random = np.random.default_rng(0)
    names = pa.array([partition_text("stream", f"topic-{k}") for k in range(4)], pa.large_string())
    for second in range(count):
        ends = (second + 1) * SECOND_US
        at = ends - 1 - random.integers(0, DELAY_S * SECOND_US, rows)
        columns: list[Any] = [
            pa.array(random.integers(0, keys, rows)),
            pa.array(random.random(rows)),
            pa.array(random.integers(0, 20, rows)),
            pa.array(np.maximum(at, 0)).cast(TIME),
        ]
        table = pa.Table.from_arrays(columns, schema=SCHEMA)
        partitions: Any = pa.array(np.sort(random.integers(0, 4, rows)))
        places = Places.of(names.take(partitions), np.arange(second * rows, (second + 1) * rows))
        yield Rows(table=table, origin=np.arange(rows)), places


def node_of(how: str, size_s: int, every_s: int | None, mode: OutputMode) -> Stateful:
    """One aggregate per key."""
    source = Source(name="stream", spec=Stream(), schema=SCHEMA, event_time="at")
    aggregates = (Aggregate(name="out", column="kind" if how == "nunique" else "value", how=how),)
    if every_s is None:
        return RunningAggregate(child=source, keys=("key",), aggregates=aggregates)
    size_us, every_us = size_s * SECOND_US, every_s * SECOND_US
    tumbles = size_us == every_us
    return WindowAggregate(
        child=source,
        keys=("key",),
        window=Tumbling(size_us=size_us) if tumbles else Sliding(size_us=size_us, every_us=every_us),
        on="at",
        aggregates=aggregates,
        mode=mode,
    )


def _as_they_are(places: Places) -> Callable[[], Places]:
    return lambda: places


def measured(node: Stateful, stream: list[tuple[Rows, Places]]) -> dict[str, object]:
    """The whole stream through one lane."""
    state = loaded((), MemoryStore(), node, lo=0, hi=2**64, closed_before_us=BEGINNING_US, watermark_us=BEGINNING_US)
    update_s, step_s, given, rows, slowest_s = 0.0, 0.0, 0, 0, 0.0
    for batch, (found, places) in enumerate(stream):
        began = time.process_time()
        windowed, _ = split_late(
            found, node, "benchmark", watermark_us=state.closed_before_us, closed_before_us=state.closed_before_us
        )
        delta = None if windowed is None else partial(windowed, node, _as_they_are(places))
        updated = time.process_time()
        done = advance(
            state,
            delta,
            node,
            watermark_us=(batch + 1 - DELAY_S) * SECOND_US,
            batch=batch,
            most_runs=64,
        )
        table = emitted(done, node)
        given += 0 if table is None else table.num_rows
        ended = time.process_time()
        state = done.state
        update_s += updated - began
        step_s += ended - updated
        slowest_s = max(slowest_s, ended - updated)
        rows += len(found)
    return {
        "krows_per_cpu_s": round(rows / (update_s + step_s) / 1e3),
        "update_krows_per_cpu_s": round(rows / update_s / 1e3),
        "state_ms_per_batch": round(1e3 * step_s / len(stream), 2),
        "slowest_state_ms": round(1e3 * slowest_s, 1),
        "rows_given": given,
        "held_rows": state.rows,
        "held_mb": round(state.nbytes / 1e6, 1),
    }


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aggregates", default=",".join(HOWS))
    parser.add_argument("--size", type=int, default=60, help="seconds")
    parser.add_argument("--every", default="60,1", help="seconds, several by comma; never: no window")
    parser.add_argument("--mode", default="append", choices=("append", "update", "complete"), help="of windows")
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--rows", type=int, default=20_000, help="per batch")
    parser.add_argument("--keys", type=int, default=1_000)
    asked = parser.parse_args()
    stream = list(batches(asked.batches, asked.rows, asked.keys))
    for every in asked.every.split(","):
        every_s = None if every == "never" else int(every)
        for how in asked.aggregates.split(","):
            node = node_of(how, asked.size, every_s, asked.mode)
            result = {"aggregate": how, "size_s": asked.size, "every_s": every_s, **measured(node, stream)}
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
