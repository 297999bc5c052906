"""What the output must be: a direct computation over all rows produced, without batches, watermarks or state."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from microstream.testing.simulation.scenario import Scenario
from microstream.testing.simulation.source import SimEvent

__all__ = [
    "Group",
    "nested",
    "problems_of_changes",
    "problems_of_inner",
    "problems_of_late",
    "problems_of_outer",
    "problems_of_raw",
    "windows",
]

Row = Mapping[str, Any]

ALL_TIME_US: Final = 0
"""Stands for the end of a window where there are none."""


class Group(NamedTuple):
    """A key and the end of its window, in microseconds."""

    key: int
    end_us: int


class Totals(NamedTuple):
    """Aggregates of one group."""

    n: int
    total: int
    low: int
    high: int


def _of(values: Sequence[int]) -> Totals:
    return Totals(len(values), sum(values), min(values), max(values))


def windows(events: Iterable[SimEvent], size_us: int, every_us: int | None = None) -> dict[Group, Totals]:
    """size, sum, min and max of `value` per key and window: tumbling, or sliding by `every_us`."""
    values: dict[Group, list[int]] = defaultdict(list)
    for event in events:
        for end_us in _ends(event.ts_us, size_us, every_us):
            values[Group(event.key, end_us)].append(event.value)
    return {group: _of(v) for group, v in values.items()}


def _whole(events: Iterable[SimEvent]) -> dict[Group, Totals]:
    """As `windows`, of all time."""
    values: dict[Group, list[int]] = defaultdict(list)
    for event in events:
        values[Group(event.key, ALL_TIME_US)].append(event.value)
    return {group: _of(v) for group, v in values.items()}


def nested(inner: Mapping[Group, Totals], size_us: int) -> dict[Group, tuple[int, int]]:
    """Per key and outer window: how many inner windows ended there, and the sum of their sizes."""
    counts: dict[Group, list[int]] = defaultdict(list)
    for group, totals in inner.items():
        counts[Group(group.key, _end(group.end_us - 1, size_us))].append(totals.n)
    return {group: (len(n), sum(n)) for group, n in counts.items()}


def _end(time_us: int, size_us: int) -> int:
    return time_us // size_us * size_us + size_us


def _ends(time_us: int, size_us: int, every_us: int | None) -> list[int]:
    """Ends of the windows that hold `time_us`."""
    step_us = size_us if every_us is None else every_us
    last = time_us // step_us * step_us
    return [start + size_us for start in range(last, time_us - size_us, -step_us)]


def problems_of_inner(scenario: Scenario, events: Sequence[SimEvent], rows: Sequence[Row]) -> list[str]:
    """What is wrong with the first window's output, if nothing may be late."""
    expected = windows(events, scenario.window_us, scenario.every_us)
    actual = [_totals(row) for row in rows]
    problems = _twice(group for group, _ in actual)
    if scenario.random_keys:
        return problems + _conserved(expected, actual)
    problems += _different(expected, dict(actual))
    return problems + _disordered((row["key"], row["window_end"]) for row in rows)


def problems_of_outer(scenario: Scenario, events: Sequence[SimEvent], rows: Sequence[Row]) -> list[str]:
    """What is wrong with the output of the window over windows, if nothing may be late."""
    assert scenario.outer_us is not None
    actual = [(Group(row["key"], row["window_end"]), (row["windows"], row["n"])) for row in rows]
    problems = _twice(group for group, _ in actual)
    if scenario.random_keys:
        ends: dict[int, int] = defaultdict(int)
        for group, (_, n) in actual:
            ends[group.end_us] += n
        inner = windows(events, scenario.window_us, scenario.every_us)
        wanted: dict[int, int] = defaultdict(int)
        for group, (_, n) in nested(inner, scenario.outer_us).items():
            wanted[group.end_us] += n
        return problems + _different(wanted, ends)
    return problems + _different(
        nested(windows(events, scenario.window_us, scenario.every_us), scenario.outer_us), dict(actual)
    )


def _totals(row: Row) -> tuple[Group, Totals]:
    group = Group(row["key"], row.get("window_end", ALL_TIME_US))
    return group, Totals(row["n"], row["total"], row["low"], row["high"])


def _conserved(expected: Mapping[Group, Totals], actual: Iterable[tuple[Group, Totals]]) -> list[str]:
    """Keys are random: per window, as many rows and the same sum must come out under whatever keys."""
    return _different(_by_window(expected.items()), _by_window(actual))


def _by_window(groups: Iterable[tuple[Group, Totals]]) -> dict[int, tuple[int, int]]:
    sums: dict[int, tuple[int, int]] = {}
    for group, totals in groups:
        n, total = sums.get(group.end_us, (0, 0))
        sums[group.end_us] = (n + totals.n, total + totals.total)
    return sums


def problems_of_late(
    events: Sequence[SimEvent],
    rows: Sequence[Row],
    late: Sequence[Row],
    size_us: int = 1,
    every_us: int | None = None,
) -> list[str]:
    """Whatever is late: every row is used once or appears in `.late` once, for each of its windows."""
    problems = _twice((row["id"], row["_window_end"]) for row in late)
    used = sum(row["n"] for row in rows)
    places = [(event, len(_ends(event.ts_us, size_us, every_us))) for event in events]
    wanted = sum(count for _, count in places)
    if used + len(late) != wanted:
        problems.append(f"{len(events)} rows went into {wanted} windows, {used} were used and {len(late)} were late")
    total = sum(row["total"] for row in rows) + sum(row["value"] for row in late)
    value = sum(event.value * count for event, count in places)
    if total != value:
        problems.append(f"values sum up to {total}, not {value}")
    by_id = {event.id: event for event in events}
    problems += [f"late row {row['id']} is no input row" for row in late if row["id"] not in by_id]
    problems += [
        f"row {row['id']} is in .late although its window ends after the watermark"
        for row in late
        if row["_window_end"] > row["_watermark"]
    ]
    return problems


def problems_of_changes(
    scenario: Scenario, events: Sequence[SimEvent], rows: Sequence[Row], *, ended: bool = True
) -> list[str]:
    """What is wrong with rows that replace one another: each is newer than the one before it, and the last is right.

    Rows of whole results may be the same again. Unless the query has `ended`, and where rows can be late, they may have
    come less far.
    """
    problems = []
    newest: dict[Group, Totals] = {}
    for group, totals in map(_totals, rows):
        if group in newest and totals.n < newest[group].n + (scenario.changes != "whole"):
            problems.append(f"{group} had {newest[group].n} rows and then {totals.n}")
        newest[group] = totals
    in_windows = scenario.changes not in ("running", "whole")
    if scenario.changes == "revisions":
        problems += _misnumbered(rows)
    expected = windows(events, scenario.window_us, scenario.every_us) if in_windows else _whole(events)
    wanted, found = (_by_window(expected.items()), _by_window(newest.items()))
    if not ended or (in_windows and scenario.may_be_late):
        most = {end: n for end, (n, _) in wanted.items()}
        return problems + [f"window {end} has {n} rows" for end, (n, _) in found.items() if n > most.get(end, 0)]
    if scenario.random_keys:
        return problems + _different(wanted, found)
    return problems + _different(expected, newest)


def _misnumbered(rows: Iterable[Row]) -> list[str]:
    """Rows of one group are numbered from 0."""
    following: dict[Group, int] = defaultdict(int)
    problems = []
    for row in rows:
        group, _ = _totals(row)
        if row["_revision"] != following[group]:
            problems.append(f"{group} has revision {row['_revision']} after {following[group] - 1}")
        following[group] = row["_revision"] + 1
    return problems


def problems_of_raw(events: Sequence[SimEvent], rows: Sequence[Row]) -> list[str]:
    """What is wrong with rows that should have passed as they are."""
    expected = {event.id: (event.key, event.value, event.ts_us) for event in events}
    actual = [(row["id"], (row["key"], row["value"], row["ts"])) for row in rows]
    problems = _twice(number for number, _ in actual) + _different(expected, dict(actual))
    return problems + _disordered((row["key"], row["id"]) for row in rows)


def _disordered(rows: Iterable[tuple[int, int]]) -> list[str]:
    """Rows of one key come out in the order in which they came in."""
    newest: dict[int, int] = {}
    problems = []
    for key, place in rows:
        if place < newest.get(key, place):
            problems.append(f"key {key}: {place} came out after {newest[key]}")
        newest[key] = place
    return problems


def _twice(groups: Iterable[Any]) -> list[str]:
    seen: set[Any] = set()
    problems = []
    for group in groups:
        if group in seen:
            problems.append(f"{group} came out twice")
        seen.add(group)
    return problems


def _different(expected: Mapping[Any, Any], actual: Mapping[Any, Any]) -> list[str]:
    missing = [f"{key} is missing" for key in expected if key not in actual]
    extra = [f"{key} should not be there" for key in actual if key not in expected]
    wrong = [
        f"{key} is {actual[key]}, not {value}"
        for key, value in expected.items()
        if key in actual and actual[key] != value
    ]
    return missing + extra + wrong
