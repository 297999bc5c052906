from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

FOLDER = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(FOLDER))  # as for a script, which may import its neighbours


def loaded(name: str) -> ModuleType:
    """A benchmark is a script, not a module of a package."""
    spec = spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


GOLDEN = {
    "auction": 66222,
    "bidder": 22520,
    "price": 376885,
    "channel": "Apple",
    "url": "https://www.nexmark.com/dlddc/ijmeg/pjdgl/item.htm?query=1",
    "dateTime": 1700000107360,
    "extra": "bciinpcm",
}

bids = loaded("bids")
sparkline = loaded("measure").sparkline


@given(first=st.integers(0, 10_000), count=st.integers(1, 200), more=st.integers(0, 200))
def test_a_bid_depends_on_its_number_only(first: int, count: int, more: int) -> None:
    long = bids.bids(first, first + count + more)

    short = bids.bids(first, first + count)

    assert short.equals(long.head(count))


def test_the_millionth_bid_is_what_it_always_was() -> None:
    [value] = bids.to_json(bids.bids(1_000_000, 1_000_001))

    assert orjson.loads(value) == GOLDEN


def test_windows_are_expected_up_to_the_watermark_of_the_slowest_partition() -> None:
    count, size_ms, delay_ms = 10_000, 500, 100
    every = bids.bids(0, count).with_row_index("at")
    newest = every.group_by(pl.col("at") % bids.PARTITIONS).agg(pl.col("dateTime").max())["dateTime"]

    totals = bids.expected_totals(count, window_ms=size_ms, watermark_ms=delay_ms)

    last_end = (int(newest.min()) - delay_ms) // size_ms * size_ms
    closed = every.filter(pl.col("dateTime") < last_end)
    assert (totals["n"].sum(), totals["total"].sum()) == (len(closed), closed["price"].sum())


def test_lines_depend_on_their_chunk_only_and_counts_are_those_of_their_words() -> None:
    words = loaded("word_count")
    [first, second] = words.chunks(words.CHUNK + 10)

    counts = words.expected_counts(words.CHUNK)

    assert second.equals(words.lines(1).head(10))
    split = [word for line in first["line"].head(100) for word in line.split()]
    assert len(split) == 100 * words.WORDS_PER_LINE
    closed = first.filter(pl.col("time_ms") < counts["end_ms"].max())
    assert counts["n"].sum() == len(closed) * words.WORDS_PER_LINE
    assert counts["end_ms"].max() <= first["time_ms"].max() - words.WATERMARK_MS


@pytest.mark.parametrize(("values", "drawn"), [([], ""), ([5, 5, 5], "▁▁▁"), ([0, 10, 0], "▁█▁")])
def test_a_curve_is_drawn_between_its_least_and_its_greatest(values: list[float], drawn: str) -> None:
    line = sparkline(values)

    assert line == drawn


@pytest.mark.parametrize("how", ["sum", "std", "first", "list", "nunique"])
def test_every_window_of_the_operator_benchmark_that_closes_comes_out(how: str) -> None:
    operators = loaded("operators")
    stream = list(operators.batches(20, 50, 3))

    tumbling = operators.measured(operators.node_of(how, 5, 5, "append"), stream)
    sliding = operators.measured(operators.node_of(how, 5, 1, "append"), stream)

    # The watermark ends at 10 s: two windows of five seconds have closed, ten that begin every second, of three keys.
    assert (tumbling["rows_given"], sliding["rows_given"]) == (2 * 3, 10 * 3)


@pytest.mark.parametrize("how", ["sum", "list"])
def test_running_totals_of_the_operator_benchmark_give_every_key_in_every_batch(how: str) -> None:
    operators = loaded("operators")
    stream = list(operators.batches(20, 50, 3))

    running = operators.measured(operators.node_of(how, 5, None, "append"), stream)
    windows = operators.measured(operators.node_of(how, 5, 5, "update"), stream)

    # Fifty rows of three keys: every key has one in every batch, in one to four of its windows.
    assert running["rows_given"] == 20 * 3
    assert 20 * 3 < windows["rows_given"] <= 20 * 3 * 4


def test_programs_of_the_startup_benchmark_run(tmp_path: Path) -> None:
    startup = loaded("startup")

    for program in startup.PROGRAMS.values():
        assert startup.seconds(program) > 0
    assert min(startup.query_seconds(tmp_path)) > 0
