"""The progress event of a batch, with the keys of Spark's StreamingQueryProgress, so that people's tools work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from microstream.checkpoint.manifest import Manifest
from microstream.clock import iso

__all__ = ["BatchFigures", "progress_event"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFigures:
    """What the driver measured of one batch. Times are microseconds; `steps` are (name, duration).

    `previous_us` is when the batch before began, None for the first.
    """

    began_us: int
    ended_us: int
    steps: Sequence[tuple[str, int]]
    rows_in: Mapping[str, int]
    bad: Mapping[str, int]
    late: Mapping[str, int]
    rows_held: Mapping[str, int]
    rows_out: Mapping[str, int]
    previous_us: int | None = None


def progress_event(query: str, manifest: Manifest, figures: BatchFigures) -> dict[str, Any]:
    """JSON-ready progress of the batch that `manifest` committed.

    Keys as in Spark (`batchId`, `numInputRows`, `durationMs`, `eventTime`, `stateOperators`, `sources`, `sink`);
    added are `numBadRecords`, `operatorId`, `sinks` and the watermark of each source and operator.
    """
    seconds = max(1e-3, (figures.ended_us - figures.began_us) / 1e6)
    rows = sum(figures.rows_in.values())
    between = seconds
    if figures.previous_us is not None:
        between = max(1e-3, (figures.began_us - figures.previous_us) / 1e6)
    sinks = [
        {"description": f"{s.kind} {s.target}", "name": s.name, "numOutputRows": figures.rows_out.get(s.name, 0)}
        for s in manifest.sinks
    ]
    watermark_us = min((o.watermark_us for o in manifest.operators), default=_source_watermark(manifest))
    return {
        "id": manifest.job,
        "runId": f"{manifest.job}-{manifest.epoch}",
        "name": query,
        "timestamp": iso(manifest.batch_time_us),
        "batchId": manifest.batch,
        "batchDuration": round(1000 * seconds),
        "numInputRows": rows,
        "numBadRecords": sum(figures.bad.values()),
        "inputRowsPerSecond": rows / between,
        "processedRowsPerSecond": rows / seconds,
        "durationMs": {
            "triggerExecution": round(1000 * seconds),
            **{name: round(us / 1000, 1) for name, us in figures.steps},
        },
        "eventTime": {"watermark": iso(watermark_us)},
        "stateOperators": [
            {
                "operatorId": o.id,
                "operatorName": o.kind,
                "watermark": iso(o.watermark_us),
                "numRowsTotal": figures.rows_held.get(o.id, 0),
                "numRowsDroppedByWatermark": figures.late.get(o.id, 0),
                "numRuns": len(o.runs),
            }
            for o in manifest.operators
        ],
        "sources": [
            {
                "description": f"{s.kind} {s.target}",
                "name": s.name,
                "endOffset": {line.partition: line.next_offset for line in s.partitions},
                "watermark": iso(s.watermark_us),
                "numInputRows": figures.rows_in.get(s.name, 0),
            }
            for s in manifest.sources
        ],
        "sinks": sinks,
        "sink": sinks[0] if sinks else {},
    }


def _source_watermark(manifest: Manifest) -> int:
    return min((s.watermark_us for s in manifest.sources), default=0)
