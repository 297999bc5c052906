from __future__ import annotations

import base64
import pickle
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queries import SCHEMA, frames, line, started, to_memory, totals

from microstream.checkpoint.invariants import invariants, structure
from microstream.checkpoint.manifest import (
    HASH_SPACE,
    Kind,
    Manifest,
    OutboxBatch,
    OutboxLane,
    Run,
    Segment,
    Status,
)
from microstream.checkpoint.store import StoreError
from microstream.clock import BEGINNING_US
from microstream.connectors.memory.sink import MemorySink, NullSink
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
from microstream.operators.aggregate import shape
from microstream.plan.nodes import Aggregate, Sink, Source
from microstream.plan.stages import Stages, cut
from microstream.runtime.changes import checked_changes, given_up
from microstream.runtime.engine import ExchangeLostError
from microstream.runtime.recovery import Verdict, first_manifest, new_sources, resumed, verdict
from microstream.runtime.worker import StateMissingError
from microstream.state.hashing import HASH_ID

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


SUM = (Aggregate(name="total", column="value", how="sum"),)


@pytest.mark.parametrize(
    ("head", "plan", "said"),
    [
        (later(hash_id="md5"), PLAN, "its keys are hashed by 'md5'"),
        (later(), to_memory(out=ROWS), "its operator 'totals' "),
        (later(), to_memory(out=totals(ROWS, id="renamed")), "its operator 'totals' "),
        (later(), to_memory(out=totals(ROWS, id="totals", size_us=20)), "operator 'totals' was"),
        (later(), to_memory(out=totals(ROWS, id="totals", aggregates=SUM)), "operator 'totals' was"),
        (later(), to_memory(out=totals(replace(ROWS, name="other"), id="totals")), "its source 'rows' is not"),
        (later(), to_memory(out=totals(replace(ROWS, spec=Topic()), id="totals")), "was memory frames, is now kafka"),
        (pending_head(), with_sink(totals(ROWS, id="totals"), NullSink()), "still has batches 7 to 7 to publish"),
        (pending_head(), with_sink(totals(ROWS, id="totals"), MemorySink(), "new"), "still has batches 7 to 7"),
    ],
    ids=[
        "hash",
        "operator gone",
        "renamed",
        "window",
        "aggregates",
        "source gone",
        "source moved",
        "sink",
        "sink gone",
    ],
)
def test_a_plan_that_does_not_fit_is_refused_with_the_reason(head: Manifest, plan: Stages, said: str) -> None:
    starts = {"other": ({PARTITION: 0}, {})}

    with pytest.raises(PlanError) as caught:
        resumed(head, plan, lanes=1, starts=starts)

    assert said in " ".join(caught.value.problems)
    assert caught.value.checkpoint == head.url
    assert head.url in str(caught.value)


def test_all_reasons_are_told_at_once() -> None:
    other = to_memory(result=totals(replace(ROWS, name="other"), id="else"))

    with pytest.raises(PlanError) as caught:
        resumed(replace(pending_head(), hash_id="md5"), other, lanes=1, starts={"other": ({PARTITION: 0}, {})})

    assert len(caught.value.problems) == 4


@pytest.mark.parametrize(
    ("head", "plan", "on_change", "kept"),
    [
        (later(runs=(run(3),)), to_memory(out=ROWS), {"totals": "drop"}, ([], ["rows"], ["out"])),
        (
            later(),
            to_memory(out=totals(replace(ROWS, name="other"), id="totals")),
            {"rows": "drop"},
            (["totals"], ["other"], ["out"]),
        ),
        (
            pending_head(),
            with_sink(totals(ROWS, id="totals"), MemorySink(), "new"),
            {"out": "drop"},
            (["totals"], ["rows"], ["new"]),
        ),
    ],
    ids=["operator", "source", "sink"],
)
def test_what_is_gone_may_be_dropped(
    head: Manifest, plan: Stages, on_change: dict[str, Any], kept: tuple[list[str], ...]
) -> None:
    starts = {"other": ({PARTITION: 0}, {})}

    going_on = resumed(head, plan, lanes=1, starts=starts, on_change=on_change)

    assert [o.id for o in going_on.operators] == kept[0]
    assert [s.name for s in going_on.sources] == kept[1]
    assert [s.name for s in going_on.sinks] == kept[2]
    assert allowed(head, going_on)
    assert resumed(going_on, plan, lanes=1, starts=NO_STARTS, on_change=on_change) == going_on


def test_what_waits_for_a_sink_that_moved_may_be_dropped() -> None:
    head, plan = pending_head(), with_sink(totals(ROWS, id="totals"), NullSink())

    going_on = resumed(head, plan, lanes=1, starts=NO_STARTS, on_change={"out": "drop"})

    assert [(s.kind, s.pending, s.published_through) for s in going_on.sinks] == [("null", (), head.batch)]
    assert allowed(head, going_on)


def test_an_operator_that_is_reset_is_empty_and_what_it_closed_stays_closed() -> None:
    head, plan = later(runs=(run(3),)), to_memory(out=totals(ROWS, id="totals", size_us=20))

    going_on = resumed(head, plan, lanes=2, starts=NO_STARTS, on_change={"totals": "reset"})

    (old,), (new,) = head.operators, going_on.operators
    assert (new.runs, new.shape) == ((), shape(plan.operators[0].node))
    assert (new.watermark_us, new.closed_before_us) == (old.watermark_us, old.closed_before_us)
    assert allowed(head, going_on)
    assert resumed(going_on, plan, lanes=2, starts=NO_STARTS, on_change={"totals": "reset"}) == going_on


@pytest.mark.parametrize(
    ("plan", "on_change"),
    [
        (to_memory(out=ROWS), {"totals": "reset"}),
        (to_memory(out=totals(ROWS, id="totals", size_us=20)), {"totals": "drop"}),
        (to_memory(out=totals(ROWS, id="totals", size_us=20)), {"total": "reset"}),
        (to_memory(out=totals(replace(ROWS, spec=Topic()), id="totals")), {"rows": "drop"}),
    ],
    ids=["gone is no reset", "changed is no drop", "another name", "a source that reads something else"],
)
def test_only_what_fits_the_change_is_given_up(plan: Stages, on_change: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="cannot go on"):
        resumed(later(), plan, lanes=1, starts=NO_STARTS, on_change=on_change)


def test_what_fits_is_kept_whatever_on_change_says() -> None:
    head = later(runs=(run(3),))

    assert resumed(head, PLAN, lanes=1, starts=NO_STARTS, on_change={"totals": "reset", "out": "drop"}) == head


def test_the_error_shows_what_can_be_given_up() -> None:
    with pytest.raises(PlanError) as caught:
        resumed(pending_head(), to_memory(new=ROWS), lanes=1, starts=NO_STARTS)

    assert "on_change={'totals': 'drop', 'out': 'drop'}" in str(caught.value)


def one_name_for_two() -> Manifest:
    """A checkpoint whose sink "totals" waits, and whose operator "totals" does too."""
    head = pending_head()
    return replace(head, sinks=tuple(replace(sink, name="totals") for sink in head.sinks))


def test_a_name_of_two_parts_gives_up_neither_until_it_says_which() -> None:
    head, plan = one_name_for_two(), to_memory(new=ROWS)
    for vague in ({"totals": "drop"}, {"operator:totals": "drop"}, {"sink:totals": "drop"}):
        with pytest.raises(PlanError, match="cannot go on"):
            resumed(head, plan, lanes=1, starts=NO_STARTS, on_change=checked_changes(vague))
    with pytest.raises(PlanError) as caught:
        resumed(head, plan, lanes=1, starts=NO_STARTS)
    assert "on_change={'operator:totals': 'drop', 'sink:totals': 'drop'}" in str(caught.value)

    clear = checked_changes({"operator:totals": "drop", "sink:totals": "drop"})

    assert allowed(head, resumed(head, plan, lanes=1, starts=NO_STARTS, on_change=clear))


def test_the_advice_for_one_of_two_of_a_name_works() -> None:
    given: dict[str, Any] = {"operator:totals": "drop"}

    with pytest.raises(PlanError) as caught:
        resumed(one_name_for_two(), to_memory(new=ROWS), lanes=1, starts=NO_STARTS, on_change=given)

    assert "on_change={'operator:totals': 'drop', 'sink:totals': 'drop'}" in str(caught.value)


def test_before_the_first_batch_operators_may_go_and_change() -> None:
    head = replace(later(), batch=-1)

    for plan in (to_memory(out=ROWS), to_memory(out=totals(ROWS, id="totals", size_us=20))):
        assert allowed(head, resumed(head, plan, lanes=1, starts=NO_STARTS))


def test_what_a_sink_published_elsewhere_says_nothing_of_a_new_target() -> None:
    head = later()
    head = replace(head, sinks=tuple(replace(sink, lanes=3) for sink in head.sinks))

    moved = resumed(head, with_sink(totals(ROWS, id="totals"), NullSink()), lanes=1, starts=NO_STARTS)

    assert [sink.lanes for sink in moved.sinks] == [0]
    assert [sink.lanes for sink in resumed(head, PLAN, lanes=1, starts=NO_STARTS).sinks] == [3]


def test_the_advice_keeps_what_was_given() -> None:
    with pytest.raises(PlanError) as caught:
        resumed(pending_head(), to_memory(new=ROWS), lanes=1, starts=NO_STARTS, on_change={"totals": "drop"})

    assert "on_change={'totals': 'drop', 'out': 'drop'}" in str(caught.value)


def test_what_is_given_up_can_be_told() -> None:
    head, plan = pending_head(), to_memory(new=ROWS)

    left = given_up(head, plan, {"totals": "drop", "rows": "drop"})

    assert [(part.full_name, part.change) for part in left] == [("operator:totals", "drop")]


@pytest.mark.parametrize("status", [Status.ACTIVE, Status.IDLE])
def test_an_operator_under_a_new_name_opens_no_window_that_was_closed(status: Status) -> None:
    head = later(runs=(run(3),))
    seen = tuple(
        replace(s, watermark_us=70, partitions=tuple(replace(line, status=status) for line in s.partitions))
        for s in head.sources
    )

    going_on = resumed(
        replace(head, sources=seen),
        to_memory(out=totals(ROWS, id="new")),
        lanes=1,
        starts=NO_STARTS,
        on_change={"totals": "drop"},
    )

    assert [(o.id, o.watermark_us, o.closed_before_us) for o in going_on.operators] == [("new", 70, 70)]


def test_what_cannot_be_given_up_offers_no_change() -> None:
    with pytest.raises(PlanError) as caught:
        resumed(later(hash_id="md5"), to_memory(out=ROWS), lanes=1, starts=NO_STARTS)

    assert "on_change" not in str(caught.value)


def test_a_change_is_a_drop_or_a_reset() -> None:
    assert checked_changes(None) == {}
    assert checked_changes({"a": "drop", "b": "reset"}) == {"a": "drop", "b": "reset"}
    with pytest.raises(PlanError, match="'a' is to be 'keep': say 'drop' or 'reset'"):
        checked_changes({"a": "keep"})


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
