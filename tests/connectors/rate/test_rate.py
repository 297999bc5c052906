from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st

import microstream as ms
from microstream.checkpoint.memory import MemoryStore
from microstream.checkpoint.source_log import SourceLog
from microstream.connectors.protocol import Range
from microstream.connectors.rate.source import PARTITION, SCHEMA, RateProbe, RateReader, RateSource

ORIGIN_US = 1_700_000_000_000_123

rates = st.sampled_from([1, 3, 7, 1000, 999_983, 1_000_000_000])


class Settable:
    """A clock that shows what it is told to."""

    def __init__(self, now_us: int) -> None:
        self.at_us = now_us

    def now_us(self) -> int:
        return self.at_us


def opened(rate: int) -> tuple[Settable, RateProbe, RateReader]:
    log, clock = SourceLog(MemoryStore(), "rate"), Settable(ORIGIN_US)
    probe = RateProbe(rate, log, clock)
    probe.bounds()
    return clock, probe, RateReader(rate, log, SCHEMA)


def rows(reader: RateReader, start: int, end: int) -> list[tuple[int, int]]:
    """(microseconds, value) of each row."""
    wanted = Range(source="rate", partition=PARTITION, start=start, end=end)
    table = reader.read([wanted], batch_time_us=0).table
    return list(zip(table["timestamp"].cast(pa.int64()).to_pylist(), table["value"].to_pylist(), strict=True))


@settings(deadline=None)
@given(rate=rates, start=st.integers(0, 10**13), cuts=st.lists(st.integers(0, 40), min_size=2, max_size=5))
def test_a_row_is_the_same_row_wherever_ranges_are_cut(rate: int, start: int, cuts: list[int]) -> None:
    _, _, reader = opened(rate)
    bounds = [start + cut for cut in sorted(cuts)]

    pieces = [row for a, b in pairwise(bounds) for row in rows(reader, a, b)]

    assert pieces == rows(reader, bounds[0], bounds[-1])
    assert [value for _, value in pieces] == list(range(bounds[0], bounds[-1]))


@settings(deadline=None)
@given(rate=rates, elapsed_us=st.integers(0, 10**12))
def test_the_end_is_the_first_row_whose_time_has_not_come(rate: int, elapsed_us: int) -> None:
    clock, probe, reader = opened(rate)
    clock.at_us += elapsed_us

    end = probe.bounds()[PARTITION].end
    around = rows(reader, max(0, end - 1), end + 1)

    times = [time - ORIGIN_US for time, _ in around]
    assert times[-1] >= elapsed_us
    assert all(time <= elapsed_us for time in times[:-1])
    assert probe.offsets_at(clock.at_us, [PARTITION])[PARTITION] == end


def test_the_end_never_falls_and_the_origin_outlives_the_probe() -> None:
    log, clock = SourceLog(MemoryStore(), "rate"), Settable(ORIGIN_US)
    first = RateProbe(100, log, clock)
    first.bounds()
    clock.at_us += 1_000_000
    there = first.bounds()[PARTITION].end
    clock.at_us -= 500_000

    assert (there, first.bounds()[PARTITION].end) == (100, 100)
    assert RateProbe(100, log, clock).bounds()[PARTITION].end == 50


def test_a_rate_source_can_be_shipped_with_its_columns_chosen() -> None:
    spec = pickle.loads(pickle.dumps(RateSource(rows_per_second=5)))
    log = SourceLog(MemoryStore(), "rate")
    spec.with_log(log).open_probe().bounds()

    only = SCHEMA.field("value")
    reader = spec.with_log(log).open_reader(name="r", schema=SCHEMA.remove(0), event_time=None, max_ahead_us=0)

    read = reader.read([Range(source="r", partition=PARTITION, start=3, end=5)], batch_time_us=0)
    assert read.table.schema.equals(SCHEMA.empty_table().select([only.name]).schema)
    assert read.table["value"].to_pylist() == read.offsets.tolist() == [3, 4]


@pytest.mark.parametrize("rate", [0, -1, 1.5, "10", True, 10**10])
def test_a_rate_that_is_none_is_refused(rate: int) -> None:
    with pytest.raises(ms.PlanError, match="rows_per_second"):
        ms.read_rate(rate)


def test_a_rate_never_ends() -> None:
    with pytest.raises(ms.PlanError, match="never ends"):
        ms.read_rate(10).compute()


def test_a_query_goes_on_with_the_next_row_after_a_restart(tmp_path: Path, threads: Client) -> None:
    tables = []
    for least in (30, 60):
        query = ms.start(
            ms.read_rate(500).to_memory(name="out"),
            name="rate",
            checkpoint=str(tmp_path),
            trigger="50ms",
            client=threads,
        )
        while len(query.table()) < least:
            query.process_all_available()
        query.stop()
        tables.append(query.table())

    whole = pd.concat(tables, ignore_index=True)
    assert whole["value"].tolist() == list(range(len(whole)))
    expected = whole["timestamp"].iloc[0] + pd.to_timedelta(np.arange(len(whole)) * 2000, unit="us")
    assert (whole["timestamp"].to_numpy() == expected.to_numpy()).all()


def test_windows_over_a_rate_close_with_every_row_in_them(threads: Client) -> None:
    rate = ms.read_rate(1000)
    counts = rate.assign(parity=ms.col("value") % 2).groupby("parity")
    query = ms.start(
        counts.window(ms.tumbling("100ms")).agg(n=("value", "size"), total=("value", "sum")).to_memory(name="counts"),
        rate.to_memory(name="rows"),
        trigger="50ms",
        client=threads,
    )
    while len(query.table("counts")) < 6:
        query.process_all_available()
    query.stop()

    seen = query.table("rows").assign(
        parity=lambda df: df["value"] % 2, window_start=lambda df: df["timestamp"].dt.floor("100ms")
    )
    oracle = seen.groupby(["parity", "window_start"])["value"].agg(n="size", total="sum").reset_index()
    found = query.table("counts")[["parity", "window_start", "n", "total"]]
    merged = found.merge(oracle, on=["parity", "window_start", "n", "total"])
    assert len(merged) == len(found)
