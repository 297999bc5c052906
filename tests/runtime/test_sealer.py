from __future__ import annotations

import itertools
from dataclasses import replace

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.checkpoint.bundle import read_segments
from microstream.checkpoint.memory import MemoryStore
from microstream.runtime.sealer import Part, Sealer
from microstream.runtime.task import Attempt, StageTask

ATTEMPT = Attempt(job="j", epoch=3, batch=4, number=0, commit_id="c", base="b", batch_time_us=0)


def task(lane: int, seal_after: int, level: int = 1, attempt: Attempt = ATTEMPT) -> StageTask:
    return StageTask(
        attempt=attempt,
        level=level,
        lane=lane,
        lanes=9,
        ranges=(),
        upstream=(),
        late=(),
        closed_before=(),
        closing=(),
        base_at=None,
        seal_after=seal_after,
    )


def part(value: int, execution: str = "e") -> Part:
    return Part(execution, f"sink:{value}", pa.table({"x": [value]}))


def sealer() -> tuple[Sealer, MemoryStore]:
    store, ids = MemoryStore(), itertools.count()
    return Sealer(store, lambda: f"{next(ids):032x}"), store


@settings(deadline=None)
@given(parts=st.lists(st.integers(0, 3), min_size=1, max_size=5), order=st.randoms())
def test_the_task_that_finishes_last_writes_the_parts_of_all(parts: list[int], order: object) -> None:
    sealing, store = sealer()
    lanes = list(range(len(parts)))
    order.shuffle(lanes)  # type: ignore[attr-defined]

    answers = [
        sealing.add(task(lane, len(parts)), [part(10 * lane + n, f"e{lane}") for n in range(parts[lane])])
        for lane in lanes
    ]

    assert all(answer == () for answer in answers[:-1])
    stored = answers[-1]
    assert sorted((s.execution, s.name) for s, _ in stored) == sorted(
        (f"e{lane}", f"sink:{10 * lane + n}") for lane in lanes for n in range(parts[lane])
    )
    assert len(store.list("data/")) == bool(sum(parts))
    assert read_segments(store, [s.segment for s, _ in stored]) == [given for _, given in stored]
    assert all(s.segment.object.startswith("data/00000003/0000000000000004-d-") for s, _ in stored)


def test_a_task_that_runs_again_after_sealing_stores_its_own_and_tells_of_all() -> None:
    sealing, store = sealer()
    sealing.add(task(0, 2), [part(1)])
    first = sealing.add(task(1, 2), [part(2)])

    again = sealing.add(task(0, 2), [part(3, "second")])

    assert again[:2] == first
    assert [(s.execution, s.name) for s, _ in again[2:]] == [("second", "sink:3")]
    assert len(store.list("data/")) == 2


def test_a_task_that_runs_again_before_sealing_counts_once_and_both_its_runs_are_stored() -> None:
    sealing, _ = sealer()
    sealing.add(task(0, 2), [part(1, "first")])

    assert sealing.add(task(0, 2), [part(1, "second")]) == ()
    stored = sealing.add(task(1, 2), [])

    assert [s.execution for s, _ in stored] == ["first", "second"]


def test_levels_of_one_lane_are_different_tasks() -> None:
    sealing, _ = sealer()

    assert sealing.add(task(0, 2, level=0), [part(1)]) == ()
    assert len(sealing.add(task(0, 2, level=1), [part(2)])) == 2


def test_attempts_are_sealed_apart() -> None:
    sealing, _ = sealer()
    again = replace(ATTEMPT, number=1)
    sealing.add(task(0, 2), [part(1)])

    assert sealing.add(task(1, 2, attempt=again), [part(2)]) == ()
    stored = sealing.add(task(0, 2, attempt=again), [part(3)])

    assert [s.name for s, _ in stored] == ["sink:2", "sink:3"]


def test_nothing_to_store_is_no_object() -> None:
    sealing, store = sealer()

    assert sealing.add(task(0, 1), []) == ()
    assert store.list("") == []
