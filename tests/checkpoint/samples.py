"""Sound manifests to start from, and arbitrary ones."""

from __future__ import annotations

from dataclasses import fields, replace
from enum import StrEnum
from typing import Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from microstream.checkpoint.manifest import (
    HASH_SPACE,
    Hash,
    Kind,
    Manifest,
    OperatorState,
    OutboxBatch,
    OutboxLane,
    PartitionState,
    Run,
    Segment,
    SinkState,
    SourceState,
    Status,
)

JOB = "5b1f8c60d4e14e0c9a4f5d8e7c6b5a49"
HALF = HASH_SPACE // 2


def segment(name: str = "data/00000001/0000000000000004-d-aa.arrow", *, offset: int = 0, rows: int = 7) -> Segment:
    return Segment(object=name, offset=offset, length=100, crc32=0xDEADBEEF, rows=rows)


def run(batch: int, lo: int, hi: int, **changes: Any) -> Run:
    whole = Run(segment=segment(), batch=batch, level=0, lo=lo, hi=hi, min_end_us=10, max_end_us=20)
    return replace(whole, **changes)


def operator(**changes: Any) -> OperatorState:
    state = OperatorState(
        id="totals",
        kind="aggregate",
        mode="append",
        shape="sum(price) by auction per 60 s",
        schema_id="s1",
        lane_starts=(0, HALF),
        closed_before_us=5,
        watermark_us=5,
        runs=(run(3, 0, HALF), run(3, HALF, HASH_SPACE), run(4, 0, HASH_SPACE)),
    )
    return replace(state, **changes)


def pending(batch: int, *lanes: int) -> OutboxBatch:
    return OutboxBatch(
        batch=batch,
        time_us=1_000 + batch,
        lanes=tuple(OutboxLane(lane=lane, segments=(segment(offset=100),), chunks=(3, 7)) for lane in lanes or (0,)),
    )


def sink(**changes: Any) -> SinkState:
    state = SinkState(
        name="out",
        kind="kafka",
        target="totals",
        format="json",
        lanes=2,
        published_through=2,
        pending=(pending(3, 0, 1), pending(4, 1)),
    )
    return replace(state, **changes)


def source(**changes: Any) -> SourceState:
    state = SourceState(
        name="bids",
        kind="kafka",
        target="bids",
        topic_ids=(("bids", "id-1"),),
        watermark_us=50,
        partitions=(
            PartitionState(partition="bids-0", next_offset=100, max_event_time_us=60, status=Status.ACTIVE),
            PartitionState(partition="bids-1", next_offset=80, max_event_time_us=70, status=Status.IDLE),
        ),
    )
    return replace(state, **changes)


def manifest(**changes: Any) -> Manifest:
    """A checkpoint after batch 4, in the middle of a query's life."""
    whole = Manifest(
        job=JOB,
        seq=9,
        parent="commit-8",
        commit_id="commit-9",
        epoch=2,
        owner="host/boot/7/90/me",
        kind=Kind.BATCH,
        url="memory://checkpoint",
        finished=False,
        batch=4,
        batch_time_us=1_004,
        written_us=2_000,
        plan="plan-1",
        lanes=2,
        hash_id="pandas-1",
        sources=(source(),),
        operators=(operator(),),
        sinks=(sink(),),
        schemas=(("s1", "AAAA"),),
        floor=3,
        kept=(),
    )
    return replace(whole, **changes)


def first(**changes: Any) -> Manifest:
    """The start of a query: no batch, no state, nothing to publish."""
    whole = manifest(
        seq=0,
        parent="",
        commit_id="commit-0",
        epoch=1,
        kind=Kind.START,
        batch=-1,
        batch_time_us=0,
        floor=0,
        operators=(operator(runs=()),),
        sinks=(sink(published_through=-1, pending=()),),
    )
    return replace(whole, **changes)


def after(previous: Manifest, **changes: Any) -> Manifest:
    """The next batch's manifest."""
    kind = changes.get("kind", Kind.BATCH)
    return replace(
        previous,
        **{
            "seq": previous.seq + 1,
            "parent": previous.commit_id,
            "commit_id": f"{kind}-{previous.seq + 1}-of-{changes.get('epoch', previous.epoch)}",
            "kind": kind,
            "batch": previous.batch + (kind is Kind.BATCH),
            "batch_time_us": previous.batch_time_us + (kind is Kind.BATCH),
            **changes,
        },
    )


def anything(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that records are made of."""
    if hint == Hash:
        return st.integers(0, HASH_SPACE)
    if hint is int:
        return st.integers(-(2**63), 2**63 - 1)
    if hint is str:
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    if hint is bool:
        return st.booleans()
    if get_origin(hint) is tuple:
        items = get_args(hint)
        if items[-1] is Ellipsis:
            return st.lists(anything(items[0]), max_size=3).map(tuple)
        return st.tuples(*(anything(item) for item in items))
    if issubclass(hint, StrEnum):
        return st.sampled_from(hint)
    hints = get_type_hints(hint, include_extras=True)
    return st.builds(hint, **{field.name: anything(hints[field.name]) for field in fields(hint)})
