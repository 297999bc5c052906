from __future__ import annotations

from dataclasses import replace

import pytest
from lane_driver import NODE, Driver

from microstream.checkpoint.manifest import HASH_SPACE
from microstream.clock import BEGINNING_US
from microstream.errors import CheckpointError, InternalError
from microstream.operators.aggregate import partial_schema
from microstream.state.lanes import lane_ranges, lane_starts
from microstream.state.loading import load


def driven(lanes: int) -> Driver:
    driver = Driver(lanes=lanes)
    driver.run([(f"user-{k}", 1.0, k, k) for k in range(40)], BEGINNING_US)
    driver.run([(f"user-{k}", 1.0, k, k + 20) for k in range(40)], 30)
    return driver


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_loaded_lane_equals_the_one_that_was_lost(lanes: int) -> None:
    driver = driven(lanes)

    loaded = [driver.loaded(lo, hi) for lo, hi in lane_ranges(lane_starts(lanes))]

    for again, lost in zip(loaded, driver.states, strict=True):
        assert again.closed_before_us == lost.closed_before_us == 30
        assert [(run.key, run.level) for run in again.runs] == [(run.key, run.level) for run in lost.runs]
        assert all(a.table.equals(b.table) for a, b in zip(again.runs, lost.runs, strict=True))


def test_rows_of_closed_windows_do_not_count() -> None:
    driver = driven(1)

    (loaded,) = driver.loaded(0, HASH_SPACE).runs[:1]

    assert driver.runs[0].segment.rows > loaded.rows
    assert loaded.min_end_us > 30


def test_a_lane_without_any_key_of_a_run_drops_it_at_its_next_step() -> None:
    driver = Driver()
    driver.run([("a", 1.0, 1, 0)], BEGINNING_US)
    driver.reload(4)
    listed = len(driver.runs)

    driver.run([], BEGINNING_US)

    assert listed == 4
    assert len(driver.runs) == 1
    assert sum(state.rows for state in driver.states) == 1


def test_state_of_another_plan_is_refused() -> None:
    driver = driven(1)
    other = replace(NODE, keys=("word",))

    with pytest.raises(CheckpointError, match="another schema"):
        load(
            driver.runs,
            driver.store,
            lo=0,
            hi=HASH_SPACE,
            closed_before_us=0,
            keys=other.keys,
            schema=partial_schema(other),
        )


def test_a_range_that_crosses_lanes_was_never_rescaled_which_is_our_bug() -> None:
    driver = driven(1)

    with pytest.raises(InternalError, match="crosses the lane"):
        driver.loaded(0, HASH_SPACE // 2)
