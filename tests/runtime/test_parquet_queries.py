from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from inline_query import Ticking, run

import microstream as ms
from microstream.checkpoint.commit import head
from microstream.checkpoint.local import LocalStore
from microstream.checkpoint.manifest import Kind, Manifest
from microstream.checkpoint.store import ObjectStore
from microstream.connectors.files.sink import ParquetSink
from microstream.connectors.files.sink_probe import ParquetProbe
from microstream.connectors.files.writer import ParquetWriter
from microstream.connectors.memory.source import PARTITION, MemoryProbe, MemorySource
from microstream.connectors.protocol import Bounds
from microstream.errors import ConnectorError, PlanError
from microstream.frame.sinks import StreamSink
from microstream.plan.nodes import Sink, Source
from microstream.runtime.driver import Driver

SCHEMA = pa.schema([pa.field("n", pa.int64(), nullable=False), pa.field("even", pa.bool_(), nullable=False)])


def frames(*sizes: int) -> list[pd.DataFrame]:
    bounds = np.cumsum([0, *sizes])
    return [
        pd.DataFrame({"n": np.arange(a, b), "even": np.arange(a, b) % 2 == 0}) for a, b in itertools.pairwise(bounds)
    ]


class Endless(MemorySource):
    """More might come after the last table."""

    @property
    def finite(self) -> bool:
        return False

    def open_probe(self) -> Open:
        return Open(len(self.tables))


class Open(MemoryProbe):
    def bounds(self) -> dict[str, Bounds]:
        return {PARTITION: replace(super().bounds()[PARTITION], finished=False)}


def endless(*sizes: int) -> ms.StreamFrame:
    tables = tuple(pa.Table.from_pandas(frame, schema=SCHEMA, preserve_index=False) for frame in frames(*sizes))
    return ms.StreamFrame(Source(name="rows", spec=Endless(tables=tables), schema=SCHEMA, event_time=None))


def numbers(folder: Path) -> list[int]:
    return sorted(ms.open_parquet(str(folder)).to_table()["n"].to_pylist())


def manifest(checkpoint: Path) -> Manifest:
    found = head(LocalStore(checkpoint))
    assert found is not None
    return found


def test_every_row_is_in_one_file_of_its_folder(tmp_path: Path) -> None:
    sink = ms.from_pandas(frames(5, 0, 3)).to_parquet(str(tmp_path / "table"), partition_cols="even", name="t")

    run(sink, folder=tmp_path / "checkpoint")

    assert numbers(tmp_path / "table") == list(range(8))
    assert sorted(p.name for p in (tmp_path / "table").iterdir() if p.name.startswith("even")) == [
        "even=false",
        "even=true",
    ]
    plain = ds.dataset(str(tmp_path / "table"), partitioning="hive").to_table()
    assert sorted(plain["n"].to_pylist()) == list(range(8))
    assert len(list((tmp_path / "table" / "_microstream").glob("0*.json"))) == 2


def test_lanes_write_their_own_files_and_become_visible_together(tmp_path: Path) -> None:
    rows = pd.DataFrame({"k": np.arange(40), "at": pd.Timestamp("2026-01-01")})
    frame = ms.from_pandas(rows, event_time="at").groupby("k").window(ms.tumbling("1s")).size()

    run(frame.to_parquet(str(tmp_path / "table")), folder=tmp_path / "checkpoint", lanes=4)

    table = ms.open_parquet(str(tmp_path / "table"))
    assert sorted(table.to_table()["k"].to_pylist()) == list(range(40))
    assert len(table.files) == 4
    assert len(list((tmp_path / "table" / "_microstream").glob("0*.json"))) == 1


def test_rows_of_many_batches_are_rolled_into_one_file_at_the_end(tmp_path: Path) -> None:
    sink = ms.from_pandas(frames(2, 3, 0, 4)).to_parquet(str(tmp_path / "table"), every="1h")

    run(sink, folder=tmp_path / "checkpoint")

    assert numbers(tmp_path / "table") == list(range(9))
    assert len(list((tmp_path / "table").glob("*.parquet"))) == 1
    [state] = manifest(tmp_path / "checkpoint").sinks
    assert (state.held, state.pending, state.published_through) == ((), (), 3)


def test_a_roll_is_due_by_batch_time_since_its_first_row(tmp_path: Path) -> None:
    # A batch takes several looks at the clock, each of which takes 10 s: a roll is due long before the end.
    sink = ms.from_pandas(frames(*[1] * 30)).to_parquet(str(tmp_path / "table"), every="2min")

    run(sink, folder=tmp_path / "checkpoint", clock=Ticking(10_000_000))

    assert numbers(tmp_path / "table") == list(range(30))
    assert 1 < len(list((tmp_path / "table").glob("*.parquet"))) < 30


def test_a_roll_that_is_due_needs_no_data(tmp_path: Path) -> None:
    table = tmp_path / "table"

    async def stop_when_rolled(driver: Driver) -> None:
        await driver.caught_up()
        while not (table / "_microstream").exists() or not list((table / "_microstream").glob("0*.json")):
            await asyncio.sleep(0.01)
        driver.stop()

    run(
        endless(2, 2).to_parquet(str(table), every="10min"),
        folder=tmp_path / "checkpoint",
        clock=Ticking(10_000_000),
        meanwhile=stop_when_rolled,
    )

    assert numbers(table) == [0, 1, 2, 3]
    assert manifest(tmp_path / "checkpoint").batch >= 2


def test_stop_rolls_what_is_held_before_its_time(tmp_path: Path) -> None:
    table, checkpoint = tmp_path / "table", tmp_path / "checkpoint"

    async def stop(driver: Driver) -> None:
        await driver.caught_up()
        [state] = manifest(checkpoint).sinks
        held.append([batch.batch for batch in state.held])
        driver.stop()

    held: list[list[int]] = []
    run(endless(2, 2).to_parquet(str(table), every="1h"), folder=checkpoint, meanwhile=stop)

    assert held == [[0, 1]]
    assert numbers(table) == [0, 1, 2, 3]
    assert manifest(checkpoint).kind is Kind.STOP
    assert manifest(checkpoint).batch == 1


def test_several_kinds_of_sinks_are_committed_together_and_one_may_lag(tmp_path: Path) -> None:
    called: dict[tuple[int, int], list[int]] = {}
    broken = True

    def write(rows: pd.DataFrame, batch: ms.Batch) -> None:
        if broken and batch.id == 1:
            raise RuntimeError("not yet")
        called[batch.id, batch.lane] = rows["n"].tolist()

    def sinks() -> list[StreamSink]:
        frame = ms.from_pandas(frames(2, 2, 2))
        return [
            frame.to_parquet(str(tmp_path / "plain"), name="plain"),
            frame.to_parquet(str(tmp_path / "rolled"), every="1h", name="rolled"),
            frame.for_each_batch(write),
            frame[frame["even"]].to_memory(),
            frame.to_console(),
        ]

    with pytest.raises(ms.UserFunctionError):
        run(*sinks(), folder=tmp_path / "checkpoint")
    broken = False
    run(*sinks(), folder=tmp_path / "checkpoint")

    written = [n for key in sorted(called) for n in called[key]]
    assert written == numbers(tmp_path / "plain") == numbers(tmp_path / "rolled") == [0, 1, 2, 3, 4, 5]


def test_two_sinks_of_one_name_are_a_plan_error() -> None:
    frame = ms.from_pandas(frames(1))

    with pytest.raises(PlanError, match="two sinks are named 'x'"):
        ms.start(frame.to_console(name="x"), frame.for_each_batch(print, name="x"), checkpoint="/nowhere")
    with pytest.raises(PlanError, match="two sinks are named '/nowhere/t'"):
        ms.start(frame.to_parquet("/nowhere/t"), frame.to_parquet("/nowhere/t", "even"), checkpoint="/nowhere/c")


def test_what_is_held_forbids_another_target_layout_or_format(tmp_path: Path) -> None:
    crash = Crash(at=10**9)
    table = tmp_path / "table"

    async def die(driver: Driver) -> None:
        await driver.caught_up()
        crash.at = crash.steps
        driver.stop()

    with pytest.raises(Dead):
        run(
            endless(2, 2).to_parquet(str(table), every="1h", name="t"),
            folder=tmp_path / "c",
            store=CrashingStore(LocalStore(tmp_path / "c"), crash),
            meanwhile=die,
        )
    for other in (
        endless(2, 2).to_parquet(str(tmp_path / "other"), every="1h", name="t"),
        endless(2, 2).to_parquet(str(table), name="t"),
        endless(2, 2).to_parquet(str(table), "even", every="1h", name="t"),
        endless(2, 2).to_console(name="t"),
        endless(2, 2).to_null(name="u"),
    ):
        with pytest.raises(PlanError, match="sink 't' .* still has batches 0 to 1 to publish"):
            run(other, folder=tmp_path / "c")

    async def stop(driver: Driver) -> None:
        await driver.caught_up()
        driver.stop()

    run(endless(2, 2).to_parquet(str(table), every="5min", name="t"), folder=tmp_path / "c", meanwhile=stop)

    assert numbers(table) == [0, 1, 2, 3]


class Dead(ConnectorError):
    """The process ended here, as far as the test is concerned."""


@dataclass
class Crash:
    """Dies at its `at`-th write of any store; the write is done first if `after`."""

    at: int
    after: bool = False
    steps: int = 0
    dead: bool = False

    def step(self, write: Callable[[], None]) -> None:
        if not self.dead and self.steps == self.at:
            self.dead = True
            if self.after:
                write()
        if self.dead:
            raise Dead("the process is gone")
        self.steps += 1
        write()


@dataclass
class CrashingStore:
    """A store whose process may die."""

    store: ObjectStore
    crash: Crash

    @property
    def url(self) -> str:
        return self.store.url

    def create(self, key: str, data: bytes) -> None:
        self.crash.step(lambda: self.store.create(key, data))

    def put(self, key: str, data: bytes) -> None:
        self.crash.step(lambda: self.store.put(key, data))

    def get(self, key: str) -> bytes:
        return self.store.get(key)

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return self.store.get_ranges(key, ranges)

    def list(self, prefix: str) -> list[str]:
        return self.store.list(prefix)

    def delete(self, keys: Sequence[str]) -> None:
        self.crash.step(lambda: self.store.delete(keys))

    def probe(self) -> None:
        """Nothing is written by it here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashingSink(ParquetSink):
    """Writes with the same process that writes the checkpoint."""

    crash: Crash = field(compare=False)

    def open_writer(self, **named: Any) -> ParquetWriter:
        writer = ParquetSink.open_writer(self, **named)
        writer._store = CrashingStore(writer._store, self.crash)
        return writer

    def open_probe(self) -> ParquetProbe:
        probe = ParquetSink.open_probe(self)
        probe._store = CrashingStore(probe._store, self.crash)
        return probe


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("every", [None, "1h"])
def test_a_crash_at_any_write_loses_no_row_and_doubles_none(tmp_path: Path, every: str | None, after: bool) -> None:
    def attempt(folder: Path, at: int) -> bool:
        """Whether the query came to its end without dying."""
        crash = Crash(at=at, after=after)
        written = ms.from_pandas(frames(3, 2)).to_parquet(str(folder / "t"), "even", every, name="t")._node
        assert isinstance(written.spec, ParquetSink)
        spec = CrashingSink(url=written.spec.url, partition_cols=("even",), every_us=written.spec.every_us, crash=crash)
        sink = StreamSink(Sink(child=written.child, name="t", spec=spec))
        try:
            run(sink, folder=folder, store=CrashingStore(LocalStore(folder / "c"), crash))
        except Dead:
            return False
        return True

    for at in itertools.count():
        folder = tmp_path / str(at)
        survived = attempt(folder, at)
        if not survived:
            assert attempt(folder, 10**9)

        assert numbers(folder / "t") == [0, 1, 2, 3, 4]
        if every is not None:
            assert ds.dataset(str(folder / "t")).count_rows() == 5, "a roll has the same files, whoever writes them"
        if survived:
            break
    assert at > 10
