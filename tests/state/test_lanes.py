from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.checkpoint.manifest import HASH_SPACE, Run, Segment
from microstream.state.lanes import lane_of, lane_ranges, lane_starts, rescale, split

hashes = st.lists(st.integers(0, HASH_SPACE - 1), min_size=1, max_size=20)


def run_of(batch: int, lo: int, hi: int) -> Run:
    segment = Segment(object=f"data/{batch}-{lo}", offset=0, length=1, crc32=0, rows=1)
    return Run(segment=segment, batch=batch, level=0, lo=lo, hi=hi, min_end_us=0, max_end_us=9)


def runs_of(lanes: int, batch: int) -> list[Run]:
    return [run_of(batch, lo, hi) for lo, hi in lane_ranges(lane_starts(lanes))]


@given(values=hashes, lanes=st.integers(1, 70))
def test_every_hash_has_the_one_lane_whose_range_holds_it(values: list[int], lanes: int) -> None:
    starts = lane_starts(lanes)

    owners = lane_of(np.array(values, np.uint64), starts)

    for value, lane in zip(values, owners, strict=True):
        lo, hi = lane_ranges(starts)[lane]
        assert lo <= value < hi


@settings(deadline=None)
@given(
    words=st.lists(st.one_of(st.none(), st.text(max_size=4)), max_size=40),
    lanes=st.integers(1, 5),
    bits=st.sampled_from([64, 4, 0]),
)
def test_split_keeps_every_row_in_order_and_each_key_in_one_lane(
    words: list[str | None], lanes: int, bits: int
) -> None:
    table = pa.table({"word": pa.array(words, pa.large_string()), "row": np.arange(len(words))})

    parts = split(table, ["word"], lane_starts(lanes), bits=bits)

    assert len(parts) == lanes
    assert sorted(row for part in parts for row in part["row"].to_pylist()) == list(range(len(words)))
    assert all(part["row"].to_pylist() == sorted(part["row"].to_pylist()) for part in parts)
    owners = {(word, lane) for lane, part in enumerate(parts) for word in part["word"].to_pylist()}
    assert len(owners) == len(set(words))


def test_a_lane_does_not_carry_the_memory_of_the_whole_table() -> None:
    table = pa.table({"k": np.arange(10_000), "text": pa.array(["x" * 50] * 10_000, pa.large_string())})

    parts = split(table, ["k"], lane_starts(10))

    assert all(part.get_total_buffer_size() < table.get_total_buffer_size() / 5 for part in parts)


@given(
    before=st.integers(1, 6),
    lanes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    values=hashes,
)
def test_each_hash_counts_in_the_same_segment_after_any_rescale(
    before: int, lanes: list[int], values: list[int]
) -> None:
    runs = [*runs_of(before, 0), *runs_of(before, 1)]
    scaled = tuple(runs)

    for count in lanes:
        scaled = rescale(scaled, lane_starts(count))

    for value in values:
        was = sorted((r.batch, r.segment.object) for r in runs if r.lo <= value < r.hi)
        assert sorted((r.batch, r.segment.object) for r in scaled if r.lo <= value < r.hi) == was
    ranges = lane_ranges(lane_starts(lanes[-1]))
    assert all(sum(lo <= run.lo and run.hi <= hi for lo, hi in ranges) == 1 for run in scaled)
    assert len({(run.batch, run.lo) for run in scaled}) == len(scaled)


def test_runs_cut_for_more_lanes_are_joined_again_for_fewer() -> None:
    runs = tuple(runs_of(2, 0))

    there_and_back = rescale(rescale(runs, lane_starts(8)), lane_starts(2))

    assert there_and_back == runs


def test_runs_of_several_lanes_stay_apart_when_one_lane_takes_them_all() -> None:
    runs = tuple(runs_of(4, 7))

    assert rescale(runs, lane_starts(1)) == runs
