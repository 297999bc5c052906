"""The judge of the simulation finds every kind of wrong output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.testing.simulation import oracle
from microstream.testing.simulation.scenario import Scenario, draw
from microstream.testing.simulation.source import SimEvent

Rows = list[dict[str, Any]]


def exact_run(seed: int, *, random_keys: bool = False) -> tuple[Scenario, list[SimEvent], Rows]:
    """A scenario, its input, and the right output of its first window."""
    number = seed
    while (scenario := draw(Random(number))).random_keys is not random_keys:
        number += 1
    events = [arrival.event for arrival in scenario.arrivals]
    rows = [
        {"key": group.key, "window_end": group.end_us, **totals._asdict()}
        for group, totals in sorted(oracle.windows(events, scenario.window_us, scenario.every_us).items())
    ]
    return scenario, events, rows


def drop_one(rows: Rows) -> Rows:
    return rows[1:]


def double_one(rows: Rows) -> Rows:
    return [*rows, rows[0]]


def change_one(rows: Rows) -> Rows:
    return [{**rows[0], "total": rows[0]["total"] + 1}, *rows[1:]]


@given(seed=st.integers(0, 10_000), random_keys=st.booleans())
@settings(deadline=None, max_examples=30)
def test_the_right_output_has_no_problems(seed: int, random_keys: bool) -> None:
    scenario, events, rows = exact_run(seed, random_keys=random_keys)

    problems = oracle.problems_of_inner(scenario, events, rows)

    assert problems == []


@pytest.mark.parametrize("random_keys", [False, True])
@pytest.mark.parametrize("damage", [drop_one, double_one, change_one])
@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_rows_missing_doubled_or_wrong_are_found(seed: int, damage: Callable[[Rows], Rows], random_keys: bool) -> None:
    scenario, events, rows = exact_run(seed, random_keys=random_keys)

    problems = oracle.problems_of_inner(scenario, events, damage(rows))

    assert problems


@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_rows_of_a_key_in_another_order_are_found(seed: int) -> None:
    _, events, _ = exact_run(seed)
    rows = [{"id": e.id, "key": e.key, "value": e.value, "ts": e.ts_us} for e in events]

    assert oracle.problems_of_raw(events, rows) == []
    assert oracle.problems_of_raw(events, rows[::-1])


@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_with_late_rows_every_row_must_be_used_or_late_but_not_both(seed: int) -> None:
    _, events, _ = exact_run(seed)
    lost, used = events[0], events[1:]
    size_us = 10_000_000
    rows = [
        {"key": group.key, "window_end": group.end_us, **totals._asdict()}
        for group, totals in oracle.windows(used, size_us).items()
    ]
    late = {"id": lost.id, "value": lost.value, "_window_end": 5, "_watermark": 5}

    assert oracle.problems_of_late(events, rows, [late]) == []
    assert oracle.problems_of_late(events, rows, [])
    assert oracle.problems_of_late(events, rows, [late, late])
    assert oracle.problems_of_late(used, rows, [late])
    assert oracle.problems_of_late(events, rows, [{**late, "_window_end": 6}])


@given(seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_outer_windows_hold_every_inner_window_once(seed: int) -> None:
    _, events, _ = exact_run(seed)

    inner = oracle.windows(events, 5_000_000)
    outer = oracle.nested(inner, 15_000_000)

    assert sum(count for count, _ in outer.values()) == len(inner)
    assert sum(n for _, n in outer.values()) == len(events)


def test_a_row_is_late_or_used_once_for_each_window_that_slides_over_it() -> None:
    event = SimEvent(id=1, key=2, value=3, ts_us=25)
    late = {"id": 1, "value": 3, "_window_end": 30, "_watermark": 30}

    windows = oracle.windows([event], 30, 10)

    assert sorted(group.end_us for group in windows) == [30, 40, 50]
    rows = [{"n": t.n, "total": t.total} for group, t in windows.items() if group.end_us > 30]
    assert oracle.problems_of_late([event], rows, [late], 30, 10) == []
    assert oracle.problems_of_late([event], rows, [], 30, 10)
    assert oracle.problems_of_late([event], rows, [late, late], 30, 10)


@pytest.mark.parametrize(("numbers", "right"), [([0, 1, 2], True), ([1], False), ([0, 0], False), ([0, 2], False)])
def test_revisions_are_numbered_from_0(numbers: list[int], right: bool) -> None:
    scenario, events, _ = exact_run(0)
    scenario = replace(scenario, changes="revisions")
    group, totals = next(iter(oracle.windows(events, scenario.window_us, scenario.every_us).items()))
    row = {"key": group.key, "window_end": group.end_us, **totals._asdict()}
    rows = [{**row, "n": 1 + at, "_revision": number} for at, number in enumerate(numbers)]

    assert (oracle.problems_of_changes(scenario, events, rows, ended=False) == []) is right


@given(seed=st.integers(0, 10_000), in_windows=st.booleans(), random_keys=st.booleans())
@settings(deadline=None, max_examples=20)
def test_rows_that_replace_one_another_must_grow_and_end_right(seed: int, in_windows: bool, random_keys: bool) -> None:
    scenario, events, _ = exact_run(seed, random_keys=random_keys)
    scenario = replace(scenario, changes="windows" if in_windows else "running", disorder_us=0, idle_timeout_us=None)

    def shown(events: Sequence[SimEvent]) -> Rows:
        if in_windows:
            groups = oracle.windows(events, scenario.window_us, scenario.every_us)
            return [{"key": g.key, "window_end": g.end_us, **totals._asdict()} for g, totals in groups.items()]
        sizes = oracle.windows([replace(event, ts_us=0) for event in events], 1)
        return [{"key": g.key, **totals._asdict()} for g, totals in sizes.items()]

    def problems(rows: Rows, ended: bool = True) -> list[str]:
        return oracle.problems_of_changes(scenario, events, rows, ended=ended)

    half = {row["key"]: row for row in shown(events[: len(events) // 2])}
    everything = shown(events)
    changed = [row for row in everything if row not in shown(events[: len(events) // 2])]
    assert problems([*shown(events[: len(events) // 2]), *changed]) == []
    assert problems(list(half.values()), ended=False) == []
    assert problems(list(half.values()))
    assert problems([*everything, everything[0]])
    assert problems([*everything[1:], {**everything[0], "total": -1_000_000}])
    assert problems([*everything[1:], {**everything[0], "n": 1_000_000}], ended=False)


@pytest.mark.parametrize(("counts", "right"), [([1, 1, 2], True), ([1, 2, 1], False)])
def test_rows_of_whole_results_may_stay_the_same_and_never_fall(counts: list[int], right: bool) -> None:
    scenario, events, _ = exact_run(0)
    rows = [{"key": 1, "n": n, "total": 0, "low": 0, "high": 0} for n in counts]

    for changes, fits in (("whole", right), ("running", False)):
        problems = oracle.problems_of_changes(replace(scenario, changes=changes), events, rows, ended=False)
        assert ([said for said in problems if "and then" in said] == []) is fits
