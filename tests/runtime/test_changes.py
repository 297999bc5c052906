"""What of a checkpoint a changed plan gives up, and what it refuses to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from heads import NO_STARTS, PLAN, ROWS, Topic, allowed, later, pending_head, run, with_sink
from queries import to_memory, totals

from microstream.checkpoint.manifest import (
    Manifest,
    Status,
)
from microstream.connectors.memory.sink import MemorySink, NullSink
from microstream.connectors.memory.source import PARTITION
from microstream.errors import (
    PlanError,
)
from microstream.operators.aggregate import shape
from microstream.plan.nodes import Aggregate
from microstream.plan.stages import Stages
from microstream.runtime.changes import checked_changes, given_up
from microstream.runtime.recovery import resumed

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
