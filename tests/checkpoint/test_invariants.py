from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from samples import HALF, after, first, manifest, operator, pending, run, segment, sink, source

from microstream.checkpoint.invariants import MAX_RUNS, invariants, structure
from microstream.checkpoint.manifest import (
    HASH_SPACE,
    Kept,
    Kind,
    Manifest,
    OutboxBatch,
    OutboxLane,
    PartitionState,
    Status,
)

KEPT = (Kept(seq=1, commit_id="commit-1", time_us=100), Kept(seq=2, commit_id="commit-2", time_us=200))


def line(partition: str = "bids-0", **changes: Any) -> PartitionState:
    return replace(
        PartitionState(partition=partition, next_offset=100, max_event_time_us=60, status=Status.ACTIVE), **changes
    )


def outbox_lane(**changes: Any) -> tuple[Any, ...]:
    lane = replace(OutboxLane(lane=0, segments=(segment(),), chunks=(7,)), **changes)
    return (replace(pending(4), lanes=(lane,)),)


def test_sound_manifests_break_nothing() -> None:
    assert structure(manifest(kept=KEPT)) == ()
    assert invariants(None, first()) == ()
    assert invariants(first(), after(first())) == ()
    assert invariants(manifest(), after(manifest())) == ()


ALONE = {
    "seq is -1, below 0": {"seq": -1, "floor": -1},
    "lanes is 0, below 1": {"lanes": 0},
    "batch is -2": {"batch": -2},
    "commit_id is empty": {"commit_id": ""},
    "job is empty": {"job": ""},
    "floor 10 is above seq 9": {"floor": 10},
    "kept is not sorted": {"kept": KEPT[::-1]},
    "kept names seq 3, which floor 3": {"kept": (replace(KEPT[0], seq=3),)},
    "source bids": {"sources": (source(), source())},
    "operator totals": {"operators": (operator(), operator())},
    "sink out": {"sinks": (sink(), sink())},
    "schema s1": {"schemas": (("s1", "A"), ("s1", "B"))},
    "partition of source bids bids-0": {"sources": (source(partitions=(line(), line())),)},
    "bids-0 is at offset -3": {"sources": (source(partitions=(line(next_offset=-3),)),)},
    f"{MAX_RUNS + 1} runs": {"operators": (operator(runs=tuple(run(3, n, n + 1) for n in range(MAX_RUNS + 1))),)},
    "lane starts ()": {"operators": (operator(lane_starts=()),)},
    "lane starts (1,)": {"operators": (operator(lane_starts=(1,)),)},
    "lane starts (0, 5, 5)": {"operators": (operator(lane_starts=(0, 5, 5)),)},
    f"lane starts (0, {HASH_SPACE})": {"operators": (operator(lane_starts=(0, HASH_SPACE)),)},
    "has no hash": {"operators": (operator(runs=(run(3, 5, 5),)),)},
    "has no hash below": {"operators": (operator(runs=(run(3, 5, HASH_SPACE + 1),)),)},
    "is not of a committed batch": {"operators": (operator(runs=(run(5, 0, 5),)),)},
    "has window ends from 30 to 20": {"operators": (operator(runs=(run(3, 0, 5, min_end_us=30),)),)},
    "names no object": {"operators": (operator(runs=(run(3, 0, 5, segment=segment("")),)),)},
    "lies at": {"operators": (operator(runs=(run(3, 0, 5, segment=segment(offset=-1)),)),)},
    "hold hash": {"operators": (operator(runs=(run(3, HALF, HASH_SPACE), run(4, 0, 9), run(3, 0, HALF + 1))),)},
    "its schema 's2'": {"operators": (operator(schema_id="s2"),)},
    "pending [4, 3] is not in order": {"sinks": (sink(pending=(pending(4), pending(3))),)},
    "published through 3, pending [3]": {"sinks": (sink(published_through=3, pending=(pending(3),)),)},
    "batch 5 is not committed": {"sinks": (sink(pending=(pending(5),)),)},
    "lanes [] are not": {"sinks": (sink(pending=(replace(pending(4), lanes=()),)),)},
    "lanes [2] are not distinct lanes of 2": {"sinks": (sink(pending=(pending(4, 2),)),)},
    "pending [3, 4, 4] is not in order": {"sinks": (sink(held=(pending(4),)),)},
    "chunks () do not cut 7 rows": {"sinks": (sink(pending=outbox_lane(chunks=())),)},
    "chunks (3, 8) do not cut 7 rows": {"sinks": (sink(pending=outbox_lane(chunks=(3, 8))),)},
    "chunks (0,) do not cut 7 rows": {"sinks": (sink(pending=outbox_lane(chunks=(0,))),)},
    "chunks (0, 7) do not cut 7 rows": {"sinks": (sink(pending=outbox_lane(chunks=(0, 7))),)},
}


@pytest.mark.parametrize(("said", "changes"), ALONE.items(), ids=ALONE)
def test_a_manifest_that_is_wrong_by_itself_is_found(said: str, changes: dict[str, Any]) -> None:
    problems = structure(manifest(**changes))

    assert any(said in problem for problem in problems), problems


FENCE = {"kind": Kind.FENCE, "epoch": 3, "owner": "other"}
BETWEEN = {
    "seq 11 does not follow seq 9": {"seq": 11},
    "parent 'x' is not commit 'commit-9'": {"parent": "x"},
    "is that of its parent": {"commit_id": "commit-9"},
    "job 'other' follows": {"job": "other"},
    "epoch 1 follows epoch 2": {"epoch": 1},
    "owner 'other' has the epoch of": {"owner": "other"},
    "begins with a manifest of kind batch": {"epoch": 3, "owner": "other"},
    "batch 6 of a batch manifest follows batch 4": {"batch": 6},
    "batch 5 of a confirm manifest": {"kind": Kind.CONFIRM, "batch": 5},
    "batch 5 of a fence manifest": {**FENCE, "batch": 5},
    "batch time 1004 follows 1004": {"batch_time_us": 1_004},
    "batch time 1003 follows": {"kind": Kind.STOP, "batch_time_us": 1_003},
    "floor 2 follows floor 3": {"floor": 2},
    "kept names [1], which GC may have removed": {"kept": (KEPT[0],)},
    "watermark 49 follows 50": {"sources": (source(watermark_us=49),)},
    "partition bids-1 is gone": {"sources": (source(partitions=(line(),)),)},
    "bids-0 offset 99 follows 100": {"sources": (source(partitions=(line(next_offset=99), line("bids-1"))),)},
    "bids-0 event time 59": {"sources": (source(partitions=(line(max_event_time_us=59), line("bids-1"))),)},
    "operator totals: watermark 4 follows 5": {"operators": (operator(watermark_us=4),)},
    "closed_before 4 follows 5": {"operators": (operator(closed_before_us=4),)},
    "published_through 1 follows 2": {"sinks": (sink(published_through=1),)},
    "pending batches [3] are gone": {"sinks": (sink(pending=(pending(4, 1),)),)},
    "pending batches [3, 4] are gone": {"sinks": ()},
}


@pytest.mark.parametrize(("said", "changes"), BETWEEN.items(), ids=BETWEEN)
def test_a_step_that_must_not_be_is_found(said: str, changes: dict[str, Any]) -> None:
    problems = invariants(manifest(), after(manifest(), **changes))

    assert any(said in problem for problem in problems), problems


def test_a_whole_result_may_be_empty() -> None:
    assert structure(manifest(sinks=(sink(pending=outbox_lane(segments=(), chunks=(0,))),))) == ()


def held(batch: int) -> OutboxBatch:
    lane = OutboxLane(lane=0, segments=(segment(f"data/{batch}"),), chunks=(7,))
    return replace(pending(batch), lanes=(lane,))


def test_what_is_held_stays_held_or_becomes_pending() -> None:
    holding = manifest(sinks=(sink(pending=(), held=(held(3), held(4))),))
    pieces = tuple(s for batch in (held(3), held(4)) for lane in batch.lanes for s in lane.segments)
    roll = replace(held(4), lanes=(OutboxLane(lane=0, segments=pieces, chunks=(14,)),))

    assert invariants(holding, after(holding)) == ()
    assert invariants(holding, after(holding, kind=Kind.CONFIRM, sinks=(sink(pending=(roll,), held=()),))) == ()
    for changed in ((sink(pending=(), held=(held(4),)),), ()):
        problems = invariants(holding, after(holding, sinks=changed))
        assert any("held batches [3" in problem for problem in problems), problems


def test_what_is_finished_stays_finished() -> None:
    finished = manifest(finished=True)

    assert invariants(finished, after(finished, kind=Kind.CONFIRM)) == ()
    assert invariants(finished, after(finished, kind=Kind.CONFIRM, finished=False)) == ("finished became false",)


def test_a_restore_may_go_back_in_input_and_state_but_not_in_what_is_published() -> None:
    older = {
        "kind": Kind.RESTORE,
        "finished": False,
        "sources": (source(watermark_us=1, partitions=(line(next_offset=1),)),),
        "operators": (operator(watermark_us=0, closed_before_us=0, runs=()),),
        "sinks": (sink(pending=(pending(3),)),),
    }
    finished = manifest(finished=True)

    assert invariants(finished, after(finished, **older)) == ()
    forgets = after(finished, **{**older, "sinks": (sink(published_through=0, pending=()),)})
    assert invariants(finished, forgets) == ("sink out: published_through 0 follows 2",)


def test_a_new_plan_may_reset_an_operator_and_drop_a_sink_but_not_rewind_a_source() -> None:
    reset = after(
        manifest(), kind=Kind.START, operators=(operator(watermark_us=0, closed_before_us=0, runs=()),), sinks=()
    )

    assert invariants(manifest(), reset) == ()
    assert invariants(manifest(), replace(reset, sources=(source(watermark_us=0),))) != ()


def test_kept_manifests_come_from_those_retained_and_stay_until_dropped() -> None:
    before = manifest(kept=(KEPT[1],))
    both = (KEPT[1], Kept(seq=4, commit_id="commit-4", time_us=300))

    assert invariants(before, after(before, kind=Kind.GC, floor=6, kept=both)) == ()
    assert invariants(before, after(before, kind=Kind.GC, floor=6, kept=())) == ()
    assert invariants(before, after(before, kind=Kind.GC, floor=6, kept=KEPT)) != ()


@pytest.mark.parametrize(
    "wrong", [first(seq=1), first(parent="x"), first(kind=Kind.BATCH, batch=0)], ids=["seq", "parent", "kind"]
)
def test_a_query_starts_with_manifest_zero(wrong: Manifest) -> None:
    assert invariants(None, wrong) != ()
