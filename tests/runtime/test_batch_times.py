"""Live queries whose event time is the time of the batch, under a clock that the test sets."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pandas as pd
from inline_query import run

import microstream as ms
from microstream.checkpoint.commit import head
from microstream.checkpoint.local import LocalStore
from microstream.checkpoint.manifest import Manifest
from microstream.clock import Clock
from microstream.runtime.driver import Driver

TIME = "_processing_time"
TIMEOUT_S = 60.0
LOOKS = 200
"""The planner looks at the clock several times per round: so many looks are dozens of rounds."""

Act = Callable[["Live", Driver], Awaitable[None]]


def at(text: str) -> pd.Timestamp:
    return pd.Timestamp(f"2026-01-01T12:{text}")


def micros(time: pd.Timestamp) -> int:
    return (time - pd.Timestamp(0)) // pd.Timedelta(1, "us")


class Hand(Clock):
    """A clock that is moved by hand, and knows how often it was looked at."""

    def __init__(self, now: pd.Timestamp) -> None:
        self._now_us, self._looks, self._moved = micros(now), 0, threading.Condition()

    def now_us(self) -> int:
        with self._moved:
            self._looks += 1
            self._moved.notify_all()
            return self._now_us

    def move(self, now: pd.Timestamp) -> None:
        with self._moved:
            self._now_us = micros(now)

    def wait_for_looks(self) -> None:
        """Until the query has looked again, so many times that it would have planned a batch if it wanted one."""
        with self._moved:
            until = self._looks + LOOKS
            assert self._moved.wait_for(lambda: self._looks >= until, TIMEOUT_S)


class Arrivals(queue.Queue[tuple[int, pd.DataFrame]]):
    """(batch, rows) of calls of a sink's function, which must be something that can be pickled."""

    def __reduce__(self) -> tuple[type[Arrivals], tuple[()]]:
        return Arrivals, ()


class Live:
    """A folder that is watched, a query on it, and what came out, by batch."""

    def __init__(self, folder: Path, clock: Hand) -> None:
        self.clock, self._folder = clock, folder
        self.source = folder / "in"
        self.source.mkdir(exist_ok=True)
        self._came = Arrivals()

    def put(self, name: str, *rows: dict[str, Any], folder: str = "in") -> None:
        (self._folder / folder).mkdir(exist_ok=True)
        hidden = self._folder / folder / f"_{name}"
        hidden.write_text("".join(json.dumps(row) + "\n" for row in rows))
        os.replace(hidden, self._folder / folder / name)

    def read(self, **options: Any) -> ms.StreamFrame:
        given = {"schema": {"k": "str"}, "event_time": TIME, "name": "in", **options}
        return ms.read_files(self.source, format="json", watch=True, **given)

    def run(self, frame: ms.StreamFrame, act: Act, lanes: int = 2) -> None:
        """Run the query until `act` returns."""
        came = self._came
        sink = frame.for_each_batch(lambda rows, batch: came.put((batch.id, rows)), name="out")

        async def meanwhile(driver: Driver) -> None:
            try:
                await act(self, driver)
            finally:
                driver.stop()

        run(sink, folder=self.checkpoint, clock=self.clock, meanwhile=meanwhile, lanes=lanes)

    async def next(self) -> tuple[int, pd.DataFrame]:
        """What comes next: (batch, rows of one lane)."""
        return await asyncio.to_thread(self._came.get, timeout=TIMEOUT_S)

    async def rest(self) -> None:
        await asyncio.to_thread(self.clock.wait_for_looks)

    def rows(self) -> list[tuple[int, pd.DataFrame]]:
        """What came and was not taken."""
        return [self._came.get() for _ in range(self._came.qsize())]

    @property
    def checkpoint(self) -> Path:
        return self._folder / "checkpoint"

    @property
    def manifest(self) -> Manifest:
        found = head(LocalStore(self.checkpoint))
        assert found is not None
        return found


def counts(frame: ms.StreamFrame, spec: Any) -> ms.StreamFrame:
    return frame.window(spec).agg(n=("k", "size")).named("counts")


def test_the_clock_closes_a_window_in_a_batch_without_data_and_no_batch_runs_for_nothing(tmp_path: Path) -> None:
    live = Live(tmp_path, Hand(at("00:03")))
    live.put("a", {"k": "x"}, {"k": "y"})
    batches = []

    async def act(live: Live, driver: Driver) -> None:
        await driver.caught_up()
        live.clock.move(at("00:09.999999"))
        await live.rest()
        batches.append(live.manifest.batch)
        live.clock.move(at("00:10"))
        batch, rows = await live.next()
        assert (batch, rows["n"].tolist(), rows["window_end"].tolist()) == (1, [2], [at("00:10")])
        live.clock.move(at("00:31"))
        await live.rest()
        batches.append(live.manifest.batch)

    live.run(counts(live.read(), ms.tumbling("10s")), act)

    assert batches == [0, 1]
    assert live.manifest.batch == 1
    assert live.rows() == []


def test_sliding_windows_close_one_by_one_each_in_one_batch(tmp_path: Path) -> None:
    live = Live(tmp_path, Hand(at("00:03")))
    live.put("a", {"k": "x"})
    closed = []

    async def act(live: Live, driver: Driver) -> None:
        await driver.caught_up()
        for second in ("00:05", "00:10"):
            live.clock.move(at(second))
            batch, rows = await live.next()
            await live.rest()
            closed.append((batch, live.manifest.batch, rows["window_end"].tolist()))
        live.clock.move(at("00:15"))
        await live.rest()

    live.run(counts(live.read(), ms.sliding("10s", every="5s")), act)

    assert closed == [(1, 1, [at("00:05")]), (2, 2, [at("00:10")])]
    assert live.manifest.batch == 2


def test_windows_over_windows_close_by_the_clock_too(tmp_path: Path) -> None:
    live = Live(tmp_path, Hand(at("00:03")))
    live.put("a", {"k": "x"}, {"k": "y"})
    inner = live.read().groupby("k").window(ms.tumbling("10s")).agg(n=("k", "size")).named("inner")
    outer = inner.window(ms.tumbling("1min")).agg(n=("n", "sum"), rows=("n", "size")).named("outer")

    async def act(live: Live, driver: Driver) -> None:
        await driver.caught_up()
        live.clock.move(at("00:10"))
        # The inner windows close in a batch of which nothing leaves the query.
        while live.manifest.batch < 1:
            await live.rest()
        live.clock.move(at("01:00"))
        batch, rows = await live.next()
        assert (batch, rows["n"].tolist(), rows["rows"].tolist()) == (2, [2], [2])

    live.run(outer, act)

    assert live.manifest.batch == 2


def test_a_restart_goes_on_above_the_last_batch_though_its_clock_is_behind(tmp_path: Path) -> None:
    live = Live(tmp_path, Hand(at("30:00")))

    async def read_all(live: Live, driver: Driver) -> None:
        await driver.caught_up()

    live.put("a", {"k": "x"}, {"k": "y"})
    live.run(live.read(), read_all)
    before_us = live.manifest.batch_time_us
    live.clock.move(at("10:00"))
    live.put("b", {"k": "z"})
    live.run(live.read(), read_all)

    (_, first), (_, second) = live.rows()
    assert before_us == micros(at("30:00"))
    assert first[TIME].tolist() == [at("30:00")] * 2
    assert second[TIME].tolist() == [at("30:00") + pd.Timedelta(1, "us")]
    assert live.manifest.sources[0].watermark_us == before_us + 1


def test_a_restart_closes_what_was_open_and_counts_in_it_until_then(tmp_path: Path) -> None:
    live = Live(tmp_path, Hand(at("00:03")))
    frame = counts(live.read(), ms.tumbling("10s"))

    async def read_all(live: Live, driver: Driver) -> None:
        await driver.caught_up()

    async def close(live: Live, driver: Driver) -> None:
        await driver.caught_up()
        live.clock.move(at("00:10"))
        _, rows = await live.next()
        assert rows["n"].tolist() == [3]

    live.put("a", {"k": "x"}, {"k": "y"})
    live.run(frame, read_all)
    held = ms.open_checkpoint(str(live.checkpoint))
    assert held.state("counts")["n"].tolist() == [2]
    assert held.batches()["watermark"].tolist()[-1] == at("00:03")
    live.clock.move(at("00:08"))
    live.put("b", {"k": "z"})
    live.run(frame, close, lanes=3)

    assert ms.open_checkpoint(str(live.checkpoint)).state("counts").empty


def beside_timed(live: Live, folder: Path, *, idle_timeout: str | None) -> ms.StreamFrame:
    """The rows of `live` and, with times of their own, those of `folder`."""
    timed = ms.read_files(
        folder,
        format="json",
        schema={"k": "str", "ts": "timestamp[us]"},
        event_time="ts",
        idle_timeout=idle_timeout,
        watch=True,
        name="timed",
    )
    return ms.concat([live.read().rename(columns={TIME: "ts"}), timed])


def test_with_a_source_by_its_own_time_the_least_of_both_counts(tmp_path: Path) -> None:
    live = Live(tmp_path, Hand(at("00:03")))
    live.put("a", {"k": "x"})
    live.put("a", {"k": "y", "ts": "2026-01-01T12:00:02"}, folder="timed")
    both = beside_timed(live, tmp_path / "timed", idle_timeout=None)

    async def act(live: Live, driver: Driver) -> None:
        await driver.caught_up()
        live.clock.move(at("00:30"))
        await live.rest()
        assert live.rows() == []
        live.put("b", {"k": "z", "ts": "2026-01-01T12:00:25"}, folder="timed")
        live.clock.move(at("00:32"))
        _, rows = await live.next()
        assert rows[["window_end", "n"]].to_dict("records") == [{"window_end": at("00:10"), "n": 2}]

    live.run(counts(both, ms.tumbling("10s")), act)

    [operator] = live.manifest.operators
    assert operator.watermark_us == micros(at("00:25"))


def test_a_source_by_its_own_time_that_sleeps_leaves_the_windows_to_the_clock(tmp_path: Path) -> None:
    live = Live(tmp_path, Hand(at("00:03")))
    live.put("a", {"k": "x"})
    live.put("a", {"k": "y", "ts": "2026-01-01T12:00:02"}, folder="timed")
    both = beside_timed(live, tmp_path / "timed", idle_timeout="5s")

    async def act(live: Live, driver: Driver) -> None:
        await driver.caught_up()
        await live.rest()
        live.clock.move(at("00:30"))
        _, rows = await live.next()
        assert rows[["window_end", "n"]].to_dict("records") == [{"window_end": at("00:10"), "n": 2}]

    live.run(counts(both, ms.tumbling("10s")), act)
