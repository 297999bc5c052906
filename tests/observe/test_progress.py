from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

from microstream.checkpoint.counting import Traffic
from microstream.checkpoint.manifest import (
    HASH_SPACE,
    Kind,
    Manifest,
    OperatorState,
    PartitionState,
    Run,
    Segment,
    SinkState,
    SourceState,
    Status,
)
from microstream.clock import BEGINNING_US, END_US
from microstream.observe.events import ProgressEvent
from microstream.observe.progress import BatchFigures, OperatorFigures, SourceFigures, progress_event

SPARK_KEYS = {
    "id",
    "runId",
    "name",
    "timestamp",
    "batchId",
    "batchDuration",
    "numInputRows",
    "inputRowsPerSecond",
    "processedRowsPerSecond",
    "durationMs",
    "eventTime",
    "stateOperators",
    "sources",
    "sink",
}
OF_A_SOURCE = {
    "description",
    "startOffset",
    "endOffset",
    "latestOffset",
    "numInputRows",
    "inputRowsPerSecond",
    "metrics",
}
OF_AN_OPERATOR = {"operatorName", "numRowsTotal", "numRowsUpdated", "numRowsRemoved", "memoryUsedBytes"}

FIGURES = BatchFigures(
    began_us=1_000_000,
    ended_us=1_500_000,
    previous_us=0,
    steps=(("level-0", 120_000), ("merged", 30_000), ("committed", 380_000)),
    sources={
        "bids": SourceFigures(rows=900, bad=3, bytes=9_000, delay_us=10, start={"bids-0": 70}, latest={"bids-0": 80}),
        "asks": SourceFigures(rows=100, bytes=500, start={"asks-0": 77}),
    },
    operators={"totals": OperatorFigures(late=4, held=50, updated=20, removed=5, memory_bytes=4_096)},
    rows_out={"out": 20},
    event_times_us=(50_000_000, 60_000_000),
    traffic=Traffic(requests=(("create", 1), ("list", 0), ("put", 2)), bytes_written=77, bytes_read=8),
)


def source(name: str, watermark_us: int) -> SourceState:
    line = PartitionState(partition=f"{name}-0", next_offset=77, max_event_time_us=5, status=Status.ACTIVE)
    return SourceState(
        name=name, kind="kafka", target=name, topic_ids=(), watermark_us=watermark_us, partitions=(line,)
    )


def operator(name: str, watermark_us: int) -> OperatorState:
    segment = Segment(object="data/x", offset=0, length=1, crc32=0, rows=1)
    run = Run(segment=segment, batch=0, level=0, lo=0, hi=HASH_SPACE, min_end_us=0, max_end_us=0)
    return OperatorState(
        id=name,
        kind="aggregate",
        mode="append",
        shape="",
        schema_id="",
        lane_starts=(0,),
        closed_before_us=0,
        watermark_us=watermark_us,
        runs=(run, run),
    )


def sink(name: str) -> SinkState:
    return SinkState(name=name, kind="kafka", target="totals", format="json", lanes=1, published_through=-1, pending=())


MANIFEST = Manifest(
    job="job",
    seq=3,
    parent="",
    commit_id="c",
    epoch=2,
    owner="me",
    kind=Kind.BATCH,
    url="u",
    finished=False,
    batch=12,
    batch_time_us=1_700_000_000_000_000,
    written_us=0,
    plan="p",
    lanes=1,
    hash_id="h",
    sources=(source("bids", 60_000_000), source("asks", BEGINNING_US)),
    operators=(operator("totals", 60_000_000), operator("daily", 50_000_000)),
    sinks=(sink("out"), sink("quiet")),
    schemas=(),
    floor=0,
    kept=(),
)


def test_tools_made_for_spark_find_their_keys() -> None:
    event = progress_event("prices", MANIFEST, FIGURES)

    assert set(event) >= SPARK_KEYS
    assert all(set(source) >= OF_A_SOURCE for source in event["sources"])
    assert all(set(operator) >= OF_AN_OPERATOR for operator in event["stateOperators"])
    assert json.loads(json.dumps(event)) == event
    assert (event["name"], event["id"], event["runId"]) == ("prices", "job", "job-2")
    assert (event["batchId"], event["timestamp"]) == (12, "2023-11-14T22:13:20.000000Z")


def keys_without_meaning(shape: Any, found: Any, at: str) -> list[str]:
    """Keys of `found` that `shape` does not explain, and keys of `shape` that `found` lacks."""
    wrong = []
    hints = get_type_hints(shape, include_extras=True)
    for key in sorted(set(found) | set(hints)):
        hint: Any = hints.get(key)
        optional = get_origin(hint) is NotRequired
        kind, *meaning = get_args(get_args(hint)[0] if optional else hint) or (None,)
        if not meaning or not meaning[0].endswith(".") or (key not in found and not optional):
            wrong.append(f"{at}.{key}")
        inner = next((part for part in (kind, *get_args(kind)) if is_typeddict(part)), None)
        if inner is None or key not in found:
            continue
        inside = found[key] if get_origin(kind) is list else [found[key]]
        inside = list(found[key].values()) if get_origin(kind) is dict else inside
        wrong += [lost for one in inside for lost in keys_without_meaning(inner, one, f"{at}.{key}")]
    return wrong


def test_every_key_is_explained_where_events_are_defined() -> None:
    event = progress_event("prices", MANIFEST, FIGURES)

    assert keys_without_meaning(ProgressEvent, event, "event") == []
    assert keys_without_meaning(ProgressEvent, event | {"extra": 1}, "event") == ["event.extra"]


def test_rows_bytes_and_durations_are_those_of_the_batch() -> None:
    event = progress_event("prices", MANIFEST, FIGURES)

    assert (event["numInputRows"], event["numBadRecords"], event["numInputBytes"]) == (1_000, 3, 9_500)
    assert (event["batchDuration"], event["processedRowsPerSecond"], event["inputRowsPerSecond"]) == (500, 2_000, 1_000)
    assert event["durationMs"] == {
        "triggerExecution": 500,
        "addBatch": 150.0,
        "walCommit": 380.0,
        "level-0": 120.0,
        "merged": 30.0,
    }
    assert event["eventTime"] == {
        "watermark": "1970-01-01T00:00:50.000000Z",
        "min": "1970-01-01T00:00:50.000000Z",
        "max": "1970-01-01T00:01:00.000000Z",
    }
    assert event["checkpoint"] == {
        "seq": 3,
        "requests": {"create": 1, "put": 2},
        "bytesWritten": 77,
        "bytesRead": 8,
    }


def test_a_source_tells_its_offsets_lag_and_watermark_per_partition() -> None:
    bids, asks = progress_event("prices", MANIFEST, FIGURES)["sources"]

    assert (bids["startOffset"], bids["endOffset"], bids["latestOffset"]) == (
        {"bids-0": 70},
        {"bids-0": 77},
        {"bids-0": 80},
    )
    assert bids["partitions"] == {
        "bids-0": {"lag": 3, "watermark": "1969-12-31T23:59:59.999995Z", "status": "active"},
    }
    assert bids["metrics"]["maxOffsetsBehindLatest"] == "3"
    assert (asks["partitions"]["asks-0"]["lag"], asks["metrics"]) == (None, {})


def test_sources_operators_and_sinks_are_told_one_by_one() -> None:
    event = progress_event("prices", MANIFEST, FIGURES)

    assert [(s["name"], s["numInputRows"], s["watermark"]) for s in event["sources"]] == [
        ("bids", 900, "1970-01-01T00:01:00.000000Z"),
        ("asks", 100, "-infinity"),
    ]
    totals, daily = event["stateOperators"]
    assert (totals["operatorId"], totals["numRowsTotal"], totals["numRowsDroppedByWatermark"]) == ("totals", 50, 4)
    assert (totals["numRowsUpdated"], totals["numRowsRemoved"], totals["memoryUsedBytes"]) == (20, 5, 4_096)
    assert (daily["operatorId"], daily["numRowsTotal"], daily["numRuns"]) == ("daily", 0, 2)
    assert [(s["name"], s["numOutputRows"]) for s in event["sinks"]] == [("out", 20), ("quiet", 0)]
    assert event["sink"] == event["sinks"][0]


def test_the_watermark_of_a_query_is_that_of_its_slowest_operator_or_else_source() -> None:
    stateless = replace(MANIFEST, operators=())
    ended = replace(MANIFEST, operators=(operator("totals", END_US),))

    watermarks = [progress_event("q", m, FIGURES)["eventTime"]["watermark"] for m in (MANIFEST, stateless, ended)]

    assert watermarks == ["1970-01-01T00:00:50.000000Z", "-infinity", "+infinity"]


def test_a_batch_without_a_measurable_duration_has_a_rate_all_the_same() -> None:
    at_once = replace(FIGURES, ended_us=FIGURES.began_us)

    assert progress_event("q", MANIFEST, at_once)["processedRowsPerSecond"] == 1_000_000.0
