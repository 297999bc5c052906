"""What travels between driver and workers: tasks down, receipts up. Frozen, picklable, small (never rows)."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from microstream.checkpoint.counting import NO_TRAFFIC, Traffic
from microstream.checkpoint.manifest import Segment
from microstream.clock import END_US
from microstream.connectors.protocol import Range

__all__ = [
    "Attempt",
    "Execution",
    "OutboxPart",
    "OutboxRef",
    "PartitionMeta",
    "PublishReceipt",
    "PublishTask",
    "Sealed",
    "StageReceipt",
    "StageTask",
    "StateChange",
    "task_key",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at one batch. `commit_id` is minted for it; the state it starts from is that of commit `base`."""

    job: str
    epoch: int
    batch: int
    number: int
    commit_id: str
    base: str
    batch_time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One run of one lane task: where its exchange output lies, under which random id."""

    level: int
    lane: int
    address: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTask:
    """Run stage `level` for `lane`.

    `ranges` are what level 0 reads. `upstream` are the executions of all lanes of all lower levels (empty at level
    0). `late` is W(N-1) and `closing` W(N) of each operator's input; `closing` is empty at level 0, where W(N) is
    not known yet. `closed_before` is before what windows of each operator took no more rows after batch N-1.
    `base_at` is (seq, commit) of a manifest with the state of `attempt.base`, for a worker that has to load it; None
    while that commit is not durable. `seal_after` is how many tasks of this attempt run on the same worker: the last
    one to finish writes the bundle for all.
    """

    attempt: Attempt
    level: int
    lane: int
    lanes: int
    ranges: tuple[Range, ...]
    upstream: tuple[Execution, ...]
    late: tuple[tuple[str, int], ...]
    closed_before: tuple[tuple[str, int], ...]
    closing: tuple[tuple[str, int], ...]
    base_at: tuple[int, str] | None
    seal_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionMeta:
    """What level 0 found in one range; event times are BEGINNING_US (greatest) and END_US (least) without rows."""

    source: str
    partition: str
    start: int
    end: int
    rows: int
    bad: int
    tombstones: int
    bytes: int
    max_event_time_us: int
    min_event_time_us: int = END_US


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """What a lane did to an operator's runs: `dropped` are the (batch, lo) of old ones, `added` is the new one.

    The numbers are for the progress event: rows that are held now, that came, that were emitted, and bytes held.
    """

    operator: str
    dropped: tuple[tuple[int, int], ...]
    added: RunPart | None
    rows_held: int
    rows_updated: int = 0
    rows_removed: int = 0
    memory_bytes: int = field(default=0, compare=False)
    """The same rows take a little more or less, depending on how they came here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPart:
    """A new run, without the place where it was stored: that is known when the bundle is sealed."""

    level: int
    rows: int
    min_end_us: int
    max_end_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxPart:
    """Rows for a sink, without the place where they are stored.

    `together`: they are published by one task with those of all other lanes, as lane 0.
    """

    sink: str
    rows: int
    chunks: tuple[int, ...]
    together: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """Where one part of execution `execution` was stored; `name` is "run:OPERATOR" or "sink:NAME"."""

    execution: str
    name: str
    segment: Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReceipt:
    """What a stage task says of itself. The echoed attempt, ranges and watermarks are compared with the task."""

    attempt: Attempt
    execution: Execution
    ranges: tuple[Range, ...]
    closing: tuple[tuple[str, int], ...]
    consumed: tuple[Execution, ...]
    partitions: tuple[PartitionMeta, ...]
    late_rows: tuple[tuple[str, int], ...]
    changes: tuple[StateChange, ...]
    outputs: tuple[OutboxPart, ...]
    sealed: tuple[Sealed, ...]
    traffic: Traffic = NO_TRAFFIC
    """What this worker asked of the checkpoint since its receipt before; other tasks of it may have a part in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRef:
    """Where the rows of a sink lane are: segments of bundles, in order, and the chunk bounds over all of them."""

    segments: tuple[Segment, ...]
    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishTask:
    """Publish what batch `batch` left for lane `lane` of `sink`. `committed` is the newest durable batch."""

    job: str
    epoch: int
    sink: str
    lane: int
    batch: int
    committed: int
    try_number: int
    outbox: OutboxRef


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishReceipt:
    """The sink lane confirmed the batch; `table` holds the rows for sinks that live in the driver."""

    sink: str
    lane: int
    batch: int
    rows: int
    skipped: bool
    table: pa.Table | None = None


def task_key(task: StageTask | PublishTask) -> str:
    """Unique per try: as Dask keys, two drivers would silently get each other's results otherwise.

    The prefix is constant per operation, because the scheduler keeps statistics per prefix for ever.
    """
    if isinstance(task, StageTask):
        a = task.attempt
        return f"stage{task.level}-{a.job[:8]}-{a.epoch}-{a.batch}-{a.number}-{task.lane}"
    return f"publish-{task.job[:8]}-{task.epoch}-{task.batch}-{task.sink}-{task.try_number}-{task.lane}"
