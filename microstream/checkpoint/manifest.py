"""The manifest: one small JSON record that is the whole checkpoint. Complete, never edited, only superseded.

State of the query = this file + the objects it lists (design: `docs/explanation/checkpoint-format.md`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, TypeAlias

__all__ = [
    "FORMAT_VERSION",
    "HASH_SPACE",
    "Hash",
    "Kept",
    "Kind",
    "Manifest",
    "OperatorState",
    "OutboxBatch",
    "OutboxLane",
    "PartitionState",
    "Run",
    "Segment",
    "SinkState",
    "SourceState",
    "Status",
]

FORMAT_VERSION = 1
HASH_SPACE = 2**64
"""Key hashes are in [0, HASH_SPACE); lane ranges are half-open."""

Hash: TypeAlias = Annotated[int, "hash"]
"""A bound of a hash range, up to HASH_SPACE itself; hexadecimal text in JSON, whose numbers many tools cut at 2**53."""


class Kind(StrEnum):
    """Why a manifest was written."""

    START = "start"
    BATCH = "batch"
    FENCE = "fence"
    CONFIRM = "confirm"
    COMPACT = "compact"
    GC = "gc"
    RESTORE = "restore"
    STOP = "stop"


class Status(StrEnum):
    """What the ledger knows of a partition (semantics 1)."""

    NEVER_SEEN = "never_seen"
    ACTIVE = "active"
    IDLE = "idle"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionState:
    """One source partition after the batch: the next offset to read, and its line of the ledger."""

    partition: str
    next_offset: int
    max_event_time_us: int
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """One source after the batch. `watermark_us` never falls."""

    name: str
    kind: str
    target: str
    topic_ids: tuple[tuple[str, str], ...]
    watermark_us: int
    partitions: tuple[PartitionState, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A piece of a bundle: an Arrow IPC stream of `rows` rows. Size and crc are checked at every read."""

    object: str
    offset: int
    length: int
    crc32: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """An immutable segment of state, written by `batch`; holds keys with a hash in `[lo, hi)` that count.

    (`batch`, `lo`) is unique within an operator: a lane writes at most one run per batch.
    """

    segment: Segment
    batch: int
    level: int
    lo: Hash
    hi: Hash
    min_end_us: int
    max_end_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorState:
    """One stateful operator after the batch.

    `lane_starts[i]` is the first hash of lane i; lane i ends where i + 1 starts, the last at HASH_SPACE. Rows of
    windows that end at or before `closed_before_us` have been emitted: a run may still contain them, they do not
    count. `input_watermarks` names each input (source) with the watermark this operator holds for it.
    """

    id: str
    kind: str
    mode: str
    shape: str
    """What must stay equal for the state to be used again: keys, window, aggregates, types."""
    schema_id: str
    lane_starts: tuple[Hash, ...]
    closed_before_us: int
    watermark_us: int
    runs: tuple[Run, ...]
    node: str = ""
    """The operator as JSON, so that others can finish its rows; empty where it holds functions of its program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxLane:
    """Rows of one sink lane that are durable but not yet confirmed; `chunks` are row bounds of transactions.

    Without segments, and with `chunks` (0,), it is a whole result ("complete") of which nothing is left.
    """

    lane: int
    segments: tuple[Segment, ...]
    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxBatch:
    """Pending rows of one sink and batch; `time_us` is the batch time."""

    batch: int
    time_us: int
    lanes: tuple[OutboxLane, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkState:
    """One sink: everything up to `published_through` is confirmed (-1: nothing), `pending` is not (oldest first).

    `lanes` is how many lanes ever published (markers to read at start). `held` are batches whose rows wait to be
    published together, which a later manifest decides: `every_us` of batch time after the first of them.
    """

    name: str
    kind: str
    target: str
    format: str
    lanes: int
    published_through: int
    pending: tuple[OutboxBatch, ...]
    held: tuple[OutboxBatch, ...] = ()
    every_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A manifest that GC leaves although it is below the floor (one per hour); pins are objects of their own."""

    seq: int
    commit_id: str
    time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A checkpoint. `seq` counts manifests without gaps from 0; `batch` is the last batch committed (-1: none)."""

    job: str
    seq: int
    parent: str
    commit_id: str
    epoch: int
    owner: str
    kind: Kind
    url: str
    finished: bool
    batch: int
    batch_time_us: int
    written_us: int
    plan: str
    """Fingerprint of the plan."""
    lanes: int
    hash_id: str
    sources: tuple[SourceState, ...]
    operators: tuple[OperatorState, ...]
    sinks: tuple[SinkState, ...]
    schemas: tuple[tuple[str, str], ...]
    """(schema id, base64 of the Arrow IPC schema message)."""
    floor: int
    kept: tuple[Kept, ...]
    format: int = FORMAT_VERSION
