from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.runtime.placement import is_uneven, place

workers = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 4), min_size=1)
before = st.lists(st.sampled_from("abcdefg"), max_size=12)


@settings(deadline=None)
@given(lanes=st.integers(1, 12), threads=workers, previous=before)
def test_every_lane_has_a_living_worker_and_stays_where_its_state_is(
    lanes: int, threads: dict[str, int], previous: list[str]
) -> None:
    placed = place(lanes, threads, previous)

    assert len(placed) == lanes
    assert set(placed) <= set(threads)
    assert all(now == old for now, old in zip(placed, previous, strict=False) if old in threads)


@settings(deadline=None)
@given(lanes=st.integers(1, 12), threads=workers)
def test_a_fresh_placement_is_even_per_thread(lanes: int, threads: dict[str, int]) -> None:
    placed = place(lanes, threads, ())

    load = Counter(placed)
    busiest = max(load[a] / threads[a] for a in load)
    assert all((load[a] + 1) / threads[a] >= busiest for a in threads)
    assert not is_uneven(placed, threads)


@settings(deadline=None)
@given(lanes=st.integers(1, 12), threads=workers, previous=before)
def test_placing_again_changes_nothing(lanes: int, threads: dict[str, int], previous: list[str]) -> None:
    placed = place(lanes, threads, previous)

    assert place(lanes, threads, placed) == placed


def test_without_workers_there_is_no_place() -> None:
    assert place(3, {}, ("a", "b", "c")) == ()
    assert not is_uneven((), {})
