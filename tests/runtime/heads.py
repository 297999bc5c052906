"""Checkpoints after some batches, of small plans, as a changed query finds them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from queries import frames, started, to_memory, totals

from microstream.checkpoint.invariants import invariants, structure
from microstream.checkpoint.manifest import (
    HASH_SPACE,
    Kind,
    Manifest,
    OutboxBatch,
    OutboxLane,
    Run,
    Segment,
)
from microstream.plan.nodes import Sink, Source
from microstream.plan.stages import Stages, cut

ROWS = frames([], [], name="rows")
PLAN = to_memory(out=totals(ROWS, id="totals"))
NO_STARTS: dict[str, tuple[dict[str, int], dict[str, str]]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """Another place to read from."""

    kind: str = "kafka"
    target: str = "bids"
    finite: bool = False


def segment(number: int) -> Segment:
    return Segment(object=f"data/{number}", offset=0, length=10, crc32=0, rows=3)


def run(batch: int, lo: int = 0, hi: int = HASH_SPACE) -> Run:
    return Run(segment=segment(batch), batch=batch, level=0, lo=lo, hi=hi, min_end_us=10, max_end_us=20)


def later(plan: Stages = PLAN, *, runs: tuple[Run, ...] = (), **changes: Any) -> Manifest:
    """A checkpoint of `plan` after batch 7."""
    head = started(plan)
    operators = tuple(replace(o, watermark_us=5, closed_before_us=5, runs=runs) for o in head.operators)
    return replace(
        head, seq=9, parent="commit-8", commit_id="commit-9", kind=Kind.BATCH, batch=7, operators=operators, **changes
    )


def with_sink(plan: Source | Any, spec: Any, name: str = "out") -> Stages:
    return cut((Sink(child=plan, name=name, spec=spec),))


def pending_head() -> Manifest:
    waiting = OutboxBatch(batch=7, time_us=1, lanes=(OutboxLane(lane=0, segments=(segment(7),), chunks=(3,)),))
    head = later()
    sinks = tuple(replace(s, lanes=1, published_through=6, pending=(waiting,)) for s in head.sinks)
    return replace(head, sinks=sinks)


def allowed(head: Manifest, going_on: Manifest) -> bool:
    """Whether the protocol takes `going_on` as the start manifest after `head`."""
    following = replace(going_on, seq=head.seq + 1, parent=head.commit_id, commit_id="c", kind=Kind.START)
    return structure(following) == () and invariants(head, following) == ()
