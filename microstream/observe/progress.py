"""The progress event of a batch, with the keys of Spark's StreamingQueryProgress, so that people's tools work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from microstream.checkpoint.counting import NO_TRAFFIC, Traffic
from microstream.checkpoint.manifest import Manifest, OperatorState, SinkState, SourceState
from microstream.clock import iso, minus
from microstream.observe.events import (
    EventTime,
    OperatorProgress,
    PartitionProgress,
    ProgressEvent,
    SinkProgress,
    SourceProgress,
)

__all__ = ["BatchFigures", "OperatorFigures", "SourceFigures", "progress_event"]

COMMITTED = "committed"
"""The last step of a batch; those before it are its work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFigures:
    """What a batch read of one source, and where it began; `latest` is where partitions ended when it was planned."""

    rows: int = 0
    bad: int = 0
    bytes: int = 0
    delay_us: int = 0
    start: Mapping[str, int] = field(default_factory=dict)
    latest: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorFigures:
    """What a batch did to one operator, over all lanes."""

    late: int = 0
    held: int = 0
    updated: int = 0
    removed: int = 0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFigures:
    """What the driver measured of one batch. Times are microseconds; `steps` are (name, duration).

    `previous_us` is when the batch before began, None for the first. `event_times_us` are the least and the greatest
    that it read, None if none.
    """

    began_us: int
    ended_us: int
    steps: Sequence[tuple[str, int]]
    sources: Mapping[str, SourceFigures] = field(default_factory=dict)
    operators: Mapping[str, OperatorFigures] = field(default_factory=dict)
    rows_out: Mapping[str, int] = field(default_factory=dict)
    event_times_us: tuple[int, int] | None = None
    traffic: Traffic = NO_TRAFFIC
    previous_us: int | None = None

    @property
    def seconds(self) -> float:
        """Duration of the batch; never 0."""
        return max(1e-3, (self.ended_us - self.began_us) / 1e6)

    @property
    def seconds_between(self) -> float:
        """Since the batch before began; never 0."""
        return self.seconds if self.previous_us is None else max(1e-3, (self.began_us - self.previous_us) / 1e6)


def progress_event(query: str, manifest: Manifest, figures: BatchFigures) -> ProgressEvent:
    """JSON-ready progress of the batch that `manifest` committed; `events.ProgressEvent` says what each key means."""
    rows = sum(source.rows for source in figures.sources.values())
    sinks = [_sink(sink, figures.rows_out.get(sink.name, 0)) for sink in manifest.sinks]
    return {
        "id": manifest.job,
        "runId": f"{manifest.job}-{manifest.epoch}",
        "name": query,
        "timestamp": iso(manifest.batch_time_us),
        "batchId": manifest.batch,
        "batchDuration": round(1000 * figures.seconds),
        "numInputRows": rows,
        "numBadRecords": sum(source.bad for source in figures.sources.values()),
        "numInputBytes": sum(source.bytes for source in figures.sources.values()),
        "inputRowsPerSecond": rows / figures.seconds_between,
        "processedRowsPerSecond": rows / figures.seconds,
        "durationMs": _durations(figures),
        "eventTime": _event_time(manifest, figures),
        "stateOperators": [
            _operator(state, figures.operators.get(state.id, OperatorFigures())) for state in manifest.operators
        ],
        "sources": [
            _source(state, figures.sources.get(state.name, SourceFigures()), figures) for state in manifest.sources
        ],
        "sinks": sinks,
        "sink": sinks[0] if sinks else {},
        "checkpoint": {
            "seq": manifest.seq,
            "requests": {kind: count for kind, count in figures.traffic.requests if count},
            "bytesWritten": figures.traffic.bytes_written,
            "bytesRead": figures.traffic.bytes_read,
        },
    }


def _durations(figures: BatchFigures) -> dict[str, float]:
    work = {name: round(us / 1000, 1) for name, us in figures.steps if name != COMMITTED}
    commit_us = sum(us for name, us in figures.steps if name == COMMITTED)
    return {
        "triggerExecution": round(1000 * figures.seconds),
        "addBatch": round(sum(us for name, us in figures.steps if name != COMMITTED) / 1000, 1),
        "walCommit": round(commit_us / 1000, 1),
        **work,
    }


def _event_time(manifest: Manifest, figures: BatchFigures) -> EventTime:
    of_sources = min((s.watermark_us for s in manifest.sources), default=0)
    watermark = iso(min((o.watermark_us for o in manifest.operators), default=of_sources))
    if figures.event_times_us is None:
        return {"watermark": watermark}
    least, greatest = figures.event_times_us
    return {"watermark": watermark, "min": iso(least), "max": iso(greatest)}


def _operator(state: OperatorState, done: OperatorFigures) -> OperatorProgress:
    return {
        "operatorId": state.id,
        "operatorName": state.kind,
        "watermark": iso(state.watermark_us),
        "numRowsTotal": done.held,
        "numRowsUpdated": done.updated,
        "numRowsRemoved": done.removed,
        "numRowsDroppedByWatermark": done.late,
        "memoryUsedBytes": done.memory_bytes,
        "numShufflePartitions": len(state.lane_starts),
        "numRuns": len(state.runs),
    }


def _source(state: SourceState, read: SourceFigures, figures: BatchFigures) -> SourceProgress:
    partitions: dict[str, PartitionProgress] = {
        line.partition: {
            "lag": max(0, read.latest[line.partition] - line.next_offset) if line.partition in read.latest else None,
            "watermark": iso(minus(line.max_event_time_us, read.delay_us)),
            "status": str(line.status),
        }
        for line in state.partitions
    }
    return {
        "description": f"{state.kind} {state.target}".strip(),
        "name": state.name,
        "startOffset": dict(read.start),
        "endOffset": {line.partition: line.next_offset for line in state.partitions},
        "latestOffset": dict(read.latest),
        "partitions": partitions,
        "watermark": iso(state.watermark_us),
        "numInputRows": read.rows,
        "numBadRecords": read.bad,
        "numInputBytes": read.bytes,
        "inputRowsPerSecond": read.rows / figures.seconds_between,
        "processedRowsPerSecond": read.rows / figures.seconds,
        "metrics": _behind([at["lag"] for at in partitions.values() if at["lag"] is not None]),
    }


def _behind(lags: Sequence[int]) -> dict[str, str]:
    """Spark's metrics of a Kafka source, text as there."""
    if not lags:
        return {}
    return {
        "minOffsetsBehindLatest": str(min(lags)),
        "maxOffsetsBehindLatest": str(max(lags)),
        "avgOffsetsBehindLatest": str(sum(lags) / len(lags)),
    }


def _sink(state: SinkState, rows: int) -> SinkProgress:
    return {
        "description": f"{state.kind} {state.target}".strip(),
        "name": state.name,
        "numOutputRows": rows,
        "numPendingBatches": len(state.pending),
        "numHeldBatches": len(state.held),
        "publishedThrough": state.published_through,
    }
