from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from microstream.state.tiers import FANOUT, tier


@given(levels=st.lists(st.integers(0, 4), max_size=60))
def test_what_is_merged_is_exactly_what_lies_below_the_new_level(levels: list[int]) -> None:
    merged, level = tier(levels)

    assert merged == tuple(at for at, other in enumerate(levels) if other < level)
    assert level == 0 or len(merged) + 1 >= FANOUT


@given(batches=st.integers(0, 600), levels=st.lists(st.integers(0, 3), max_size=40))
def test_any_number_of_runs_shrinks_to_few_per_level(batches: int, levels: list[int]) -> None:
    for _ in range(batches):
        merged, level = tier(levels)
        levels = [*(other for at, other in enumerate(levels) if at not in merged), level]

    if batches >= FANOUT:
        assert sum(1 for other in levels if other == 0) < FANOUT
    if batches >= FANOUT**2:
        assert sum(1 for other in levels if other == 1) < FANOUT
