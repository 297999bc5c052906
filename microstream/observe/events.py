"""The shape of a progress event: every key with its type and its meaning, here and nowhere else.

Keys are those of Spark's StreamingQueryProgress where Spark has one, so that people's tools work. The page
`docs/reference/progress.md` is made of these classes.
"""

from __future__ import annotations

from typing import Annotated, NotRequired, TypedDict

__all__ = [
    "CheckpointTraffic",
    "EventTime",
    "OperatorProgress",
    "PartitionProgress",
    "ProgressEvent",
    "SinkProgress",
    "SourceProgress",
]


class EventTime(TypedDict):
    """Event times as ISO text in UTC; a watermark may also be "-infinity" or "+infinity"."""

    watermark: Annotated[str, "Least watermark of all stateful operators; of all sources, where none is stateful."]
    min: NotRequired[Annotated[str, "Least event time that the batch read; absent if it read none."]]
    max: NotRequired[Annotated[str, "Greatest event time that the batch read; absent if it read none."]]


class PartitionProgress(TypedDict):
    """One partition of a source after the batch."""

    lag: Annotated[int | None, "Offsets between `endOffset` and `latestOffset`; null where the latter is not known."]
    watermark: Annotated[str, "Greatest event time seen, minus the delay."]
    status: Annotated[str, "`never_seen`, `active`, `idle` (caught up and quiet) or `finished`."]


class SourceProgress(TypedDict):
    """One source. Offsets are by partition; ends are exclusive."""

    description: Annotated[str, "Kind and target, as in `kafka bids`."]
    name: Annotated[str, "Name within the query."]
    startOffset: Annotated[dict[str, int], "First offset of the batch."]
    endOffset: Annotated[dict[str, int], "First offset of the next batch."]
    latestOffset: Annotated[dict[str, int], "End of each partition when the batch was planned."]
    partitions: Annotated[dict[str, PartitionProgress], "What is known of each partition."]
    watermark: Annotated[str, "Watermark of the source."]
    numInputRows: Annotated[int, "Rows decoded."]
    numBadRecords: Annotated[int, "Records dropped or diverted because they cannot be decoded."]
    numInputBytes: Annotated[int, "Bytes of the records as they lie in the source."]
    inputRowsPerSecond: Annotated[float, "Rows over the time since the batch before began."]
    processedRowsPerSecond: Annotated[float, "Rows over the duration of the batch."]
    metrics: Annotated[dict[str, str], "`minOffsetsBehindLatest`, `max...` and `avg...` over partitions, as of Spark."]


class OperatorProgress(TypedDict):
    """One stateful operator."""

    operatorId: Annotated[str, "Name given by `.named()`, else kind and ordinal."]
    operatorName: Annotated[str, "Kind of operator."]
    watermark: Annotated[str, "Watermark of its input, by which it closed windows."]
    numRowsTotal: Annotated[int, "Rows of state held after the batch; a key may have one in several runs."]
    numRowsUpdated: Annotated[int, "Partial rows that the batch brought: one per key, window and source lane."]
    numRowsRemoved: Annotated[int, "Rows emitted because their windows closed."]
    numRowsDroppedByWatermark: Annotated[int, "Input rows that came too late; `.late` has them."]
    memoryUsedBytes: Annotated[int, "Bytes of that state in the memory of all workers."]
    numShufflePartitions: Annotated[int, "Lanes."]
    numRuns: Annotated[int, "Runs of state that the checkpoint lists."]


class SinkProgress(TypedDict):
    """One sink."""

    description: Annotated[str, "Kind and target, as in `kafka totals`."]
    name: Annotated[str, "Name within the query."]
    numOutputRows: Annotated[int, "Rows that the batch leaves for it."]
    numPendingBatches: Annotated[int, "Committed batches that the sink had not confirmed yet, this one included."]
    numHeldBatches: Annotated[int, "Committed batches whose rows wait for `every=` to be published together."]
    publishedThrough: Annotated[int, "Newest batch up to which it has confirmed everything; -1 for none."]


class CheckpointTraffic(TypedDict):
    """What the query asked of its checkpoint since the event before, by driver and workers."""

    seq: Annotated[int, "Number of the batch's manifest."]
    requests: Annotated[dict[str, int], "Requests by kind: `create` `put` `get` `list` `delete`."]
    bytesWritten: Annotated[int, "Bytes sent to the store."]
    bytesRead: Annotated[int, "Bytes fetched from the store."]


class ProgressEvent(TypedDict):
    """One committed batch: `query.last_progress`. JSON-ready."""

    id: Annotated[str, "The job's uuid: the same for all runs on one checkpoint."]
    runId: Annotated[str, "The job's uuid and the driver's epoch: another one after each start."]
    name: Annotated[str, "Name of the query."]
    timestamp: Annotated[str, "Batch time, ISO text in UTC."]
    batchId: Annotated[int, "Number of the batch, from 0."]
    batchDuration: Annotated[int, "Milliseconds from the start of the batch to its commit."]
    numInputRows: Annotated[int, "Rows decoded, over all sources."]
    numBadRecords: Annotated[int, "Bad records, over all sources."]
    numInputBytes: Annotated[int, "Bytes of the records, over all sources."]
    inputRowsPerSecond: Annotated[float, "Rows over the time since the batch before began."]
    processedRowsPerSecond: Annotated[float, "Rows over the duration of the batch."]
    durationMs: Annotated[
        dict[str, float],
        "`triggerExecution`: all of it; `addBatch`: reading and computing, of which `level-0`, `level-1`, ... are the "
        "stages and `merged` the wait for the batch before; `walCommit`: writing the manifest.",
    ]
    eventTime: Annotated[EventTime, "Event times and the watermark."]
    stateOperators: Annotated[list[OperatorProgress], "Stateful operators, in the order of the plan."]
    sources: Annotated[list[SourceProgress], "Sources, by name."]
    sinks: Annotated[list[SinkProgress], "Sinks, in the order given."]
    sink: Annotated[SinkProgress | dict[str, str], "The first of them."]
    checkpoint: Annotated[CheckpointTraffic, "What the checkpoint cost."]
