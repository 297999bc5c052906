from __future__ import annotations

import base64
import pickle
from dataclasses import replace

import pyarrow as pa
import pytest
from heads import NO_STARTS, PLAN, ROWS, Topic, later, run, with_sink
from hypothesis import given, settings
from hypothesis import strategies as st
from queries import SCHEMA, line, started, to_memory, totals

from microstream.checkpoint.invariants import invariants, structure
from microstream.checkpoint.manifest import (
    HASH_SPACE,
    Kind,
    Status,
)
from microstream.checkpoint.store import StoreError
from microstream.clock import BEGINNING_US
from microstream.connectors.memory.sink import NullSink
from microstream.connectors.memory.source import PARTITION
from microstream.errors import (
    BadRecordError,
    CheckpointError,
    ConnectorError,
    FencedError,
    InternalError,
    MicrostreamError,
    OffsetExpiredError,
    PlanError,
    UnreachableError,
    UserFunctionError,
)
from microstream.runtime.engine import ExchangeLostError
from microstream.runtime.recovery import Verdict, first_manifest, new_sources, resumed, verdict
from microstream.runtime.worker import StateMissingError
from microstream.state.hashing import HASH_ID


def test_a_query_starts_at_its_start_offsets_with_nothing_seen_and_nothing_held() -> None:
    head = started(PLAN, lanes=4, rows=3)

    assert invariants(None, head) == ()
    assert head.sources[0].partitions == (line(PARTITION, 3),)
    assert (head.operators[0].watermark_us, head.operators[0].runs) == (BEGINNING_US, ())
    assert len(head.operators[0].lane_starts) == head.lanes == 4
    assert (head.sinks[0].published_through, head.sinks[0].lanes) == (-1, 0)
    assert (head.batch, head.hash_id, head.plan) == (-1, HASH_ID, PLAN.fingerprint)


def test_the_start_of_a_topic_keeps_its_id_and_sorted_partitions() -> None:
    plan = to_memory(out=replace(ROWS, spec=Topic()))
    starts = {"rows": ({"bids-1": 7, "bids-0": 4}, {"bids": "id-1"})}

    head = first_manifest(plan, job="j", commit_id="c", epoch=1, owner="o", url="u", lanes=1, starts=starts, now_us=0)

    assert head.sources[0].partitions == (line("bids-0", 4), line("bids-1", 7))
    assert head.sources[0].topic_ids == (("bids", "id-1"),)
    assert all(p.status is Status.NEVER_SEEN for p in head.sources[0].partitions)


def test_schemas_of_state_can_be_read_by_themselves() -> None:
    head = started(PLAN)

    schemas = dict(head.schemas)

    message = base64.b64decode(schemas[head.operators[0].schema_id])
    found = pa.ipc.read_schema(pa.py_buffer(message))
    assert found.names[:2] == ["key", "window_end"]


def test_the_same_plan_goes_on_with_an_equal_manifest() -> None:
    head = later(runs=(run(3), run(6)))

    assert resumed(head, PLAN, lanes=1, starts=NO_STARTS) == head


@settings(deadline=None)
@given(lanes=st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_any_number_of_lanes_holds_the_same_hashes_of_the_same_runs(lanes: list[int]) -> None:
    head = later(runs=(run(3), run(6)))

    scaled = head
    for count in lanes:
        scaled = resumed(scaled, PLAN, lanes=count, starts=NO_STARTS)
        assert structure(scaled) == ()
        assert (scaled.lanes, len(scaled.operators[0].lane_starts)) == (count, count)
        starts = {*scaled.operators[0].lane_starts, HASH_SPACE}
        for batch in (3, 6):
            pieces = sorted((r.lo, r.hi) for r in scaled.operators[0].runs if r.batch == batch)
            assert [lo for lo, _ in pieces] == [0, *(hi for _, hi in pieces)][:-1]
            assert pieces[-1][1] == HASH_SPACE
            assert all(not any(lo < start < hi for start in starts) for lo, hi in pieces)

    back = resumed(scaled, PLAN, lanes=1, starts=NO_STARTS)
    assert back == head


def test_one_lane_becomes_two_and_four_and_one_again() -> None:
    head = later(runs=(run(3),))

    two = resumed(head, PLAN, lanes=2, starts=NO_STARTS)
    four = resumed(two, PLAN, lanes=4, starts=NO_STARTS)
    one = resumed(four, PLAN, lanes=1, starts=NO_STARTS)

    assert [len(m.operators[0].runs) for m in (two, four, one)] == [2, 4, 1]
    assert one == head


def test_a_new_source_operator_and_sink_join_a_running_query() -> None:
    head, fresh = later(runs=(run(3),)), replace(ROWS, name="fresh")
    plan = to_memory(out=totals(ROWS, id="totals"), more=totals(fresh, id="more"))

    assert [s.name for s in new_sources(head, plan)] == ["fresh"]
    joined = resumed(head, plan, lanes=1, starts={"fresh": ({PARTITION: 2}, {})})

    assert invariants(head, replace(joined, seq=10, parent="commit-9", commit_id="c", kind=Kind.START)) == ()
    assert {s.name: s.partitions[0].next_offset for s in joined.sources} == {"rows": 0, "fresh": 2}
    operators = {o.id: o for o in joined.operators}
    assert operators["totals"] == head.operators[0]
    assert (operators["more"].watermark_us, operators["more"].runs) == (BEGINNING_US, ())
    assert {s.name: s.published_through for s in joined.sinks} == {"out": -1, "more": 7}


def test_all_sources_of_a_new_query_are_new() -> None:
    assert new_sources(None, PLAN) == PLAN.sources


def test_a_sink_may_move_once_everything_is_published() -> None:
    head = later()

    moved = resumed(head, with_sink(totals(ROWS, id="totals"), NullSink()), lanes=1, starts=NO_STARTS)

    assert [(s.name, s.kind) for s in moved.sinks] == [("out", "null")]


def test_a_key_that_may_now_be_null_keeps_its_state() -> None:
    strict = pa.schema([pa.field("key", pa.large_string(), nullable=False), *list(SCHEMA)[1:]])
    before = to_memory(out=totals(replace(ROWS, schema=strict), id="totals"))
    head = later(before, runs=(run(3),))

    after = resumed(head, PLAN, lanes=1, starts=NO_STARTS)

    assert structure(after) == ()
    assert [replace(o, node="") for o in after.operators] == [replace(o, node="") for o in head.operators]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UserFunctionError("no"), Verdict.STOP),
        (BadRecordError("no"), Verdict.STOP),
        (FencedError("no"), Verdict.STOP),
        (CheckpointError("no"), Verdict.STOP),
        (PlanError("no"), Verdict.STOP),
        (ConnectorError("no"), Verdict.STOP),
        (OffsetExpiredError("no"), Verdict.STOP),
        (UnreachableError("away"), Verdict.WAIT),
        (ExchangeLostError("gone"), Verdict.AGAIN),
        (StateMissingError("gone"), Verdict.AGAIN),
        (StoreError("timeout"), Verdict.WAIT),
        (InternalError("refused"), Verdict.AGAIN),
        (MemoryError(), Verdict.AGAIN),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value.value,
)
def test_a_failure_is_tried_again_waited_for_or_final(error: BaseException, expected: Verdict) -> None:
    assert verdict(error) is expected
    if isinstance(error, MicrostreamError):
        assert verdict(pickle.loads(pickle.dumps(error))) is expected
