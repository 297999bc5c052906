from __future__ import annotations

import json
from dataclasses import replace

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
from microstream.observe.progress import BatchFigures, progress_event

SPARK_KEYS = {
    "id",
    "runId",
    "name",
    "timestamp",
    "batchId",
    "batchDuration",
    "numInputRows",
    "processedRowsPerSecond",
    "durationMs",
    "eventTime",
    "stateOperators",
    "sources",
    "sink",
}

FIGURES = BatchFigures(
    began_us=1_000_000,
    ended_us=1_500_000,
    steps=(("level-0", 120_000), ("committed", 380_000)),
    rows_in={"bids": 900, "asks": 100},
    bad={"bids": 3},
    late={"totals": 4},
    rows_held={"totals": 50},
    rows_out={"out": 20},
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
    assert json.loads(json.dumps(event)) == event
    assert (event["name"], event["id"], event["runId"]) == ("prices", "job", "job-2")
    assert (event["batchId"], event["timestamp"]) == (12, "2023-11-14T22:13:20.000000Z")


def test_rows_and_durations_are_those_of_the_batch() -> None:
    event = progress_event("prices", MANIFEST, FIGURES)

    assert (event["numInputRows"], event["numBadRecords"]) == (1_000, 3)
    assert (event["batchDuration"], event["processedRowsPerSecond"]) == (500, 2_000.0)
    assert event["durationMs"] == {"triggerExecution": 500, "level-0": 120.0, "committed": 380.0}


def test_sources_operators_and_sinks_are_told_one_by_one() -> None:
    event = progress_event("prices", MANIFEST, FIGURES)

    assert [(s["name"], s["numInputRows"], s["watermark"]) for s in event["sources"]] == [
        ("bids", 900, "1970-01-01T00:01:00.000000Z"),
        ("asks", 100, "-infinity"),
    ]
    assert event["sources"][0]["endOffset"] == {"bids-0": 77}
    assert [
        (o["operatorId"], o["numRowsTotal"], o["numRowsDroppedByWatermark"], o["numRuns"])
        for o in event["stateOperators"]
    ] == [("totals", 50, 4, 2), ("daily", 0, 0, 2)]
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
