"""State of rows that are replaced, against a dictionary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial as bind
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.checkpoint.bundle import Bundle
from microstream.checkpoint.manifest import HASH_SPACE, Run
from microstream.checkpoint.memory import MemoryStore
from microstream.clock import BEGINNING_US
from microstream.errors import CheckpointError
from microstream.state.lane import END
from microstream.state.lanes import lane_ranges, lane_starts, rescale, split
from microstream.state.loading import load_upserts
from microstream.state.upserts import CROWDED, Identity, UpsertState, UpsertStep, current, step

KEYS = ("word", "real")
Group = tuple[Any, ...]
Row = tuple[str | None, float | None, int, int]
"""word, real, end of the window, value"""

rows = st.tuples(
    st.sampled_from(["a", "b", "user-1", "user-2", None]),
    st.sampled_from([0.0, 1.5, None]),
    st.integers(0, 40),
    st.integers(1, 100),
)
batches_of_rows = st.lists(st.lists(rows, max_size=12), max_size=14)


def schema_of(identity: Identity) -> pa.Schema:
    end = [pa.field(END, pa.int64())] if identity.windowed else []
    return pa.schema(
        [pa.field("word", pa.large_string()), pa.field("real", pa.float64()), *end, pa.field("sum", pa.int64())]
    )


def summed(partials: pa.Table, identity: Identity) -> pa.Table:
    """Rows of one identity become one, in an order that says nothing."""
    found = partials.group_by(list(identity.names), use_threads=False).aggregate([("sum", "sum")])
    order = np.random.default_rng(found.num_rows).permutation(found.num_rows)
    return found.rename_columns([*identity.names, "sum"]).take(order).cast(schema_of(identity))


def by_group(table: pa.Table | None, identity: Identity) -> dict[Group, int]:
    """The sum of each group, of which there is one row."""
    if table is None:
        return {}
    found = {tuple(row[name] for name in identity.names): row["sum"] for row in table.to_pylist()}
    assert len(found) == table.num_rows
    return found


@dataclass
class Lanes:
    """Lanes of an operator with the list of runs of a manifest and a store, and beside them what they should hold."""

    identity: Identity
    evicts: bool
    lanes: int = 1
    most_runs: int = 64
    batch: int = 0
    watermark_us: int = BEGINNING_US
    runs: tuple[Run, ...] = ()
    store: MemoryStore = field(default_factory=MemoryStore)
    states: list[UpsertState] = field(default_factory=list)
    model: dict[Group, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reload(self.lanes)

    def reload(self, lanes: int) -> None:
        """Forget what is in memory, and begin again with so many lanes."""
        self.lanes = lanes
        self.runs = rescale(self.runs, lane_starts(lanes))
        self.states = [self.loaded(lo, hi) for lo, hi in lane_ranges(lane_starts(lanes))]

    def loaded(self, lo: int, hi: int) -> UpsertState:
        return load_upserts(
            self.runs,
            self.store,
            self.identity,
            lo=lo,
            hi=hi,
            closed_before_us=self.watermark_us,
            schema=schema_of(self.identity),
        )

    def run(self, rows: Sequence[Row], watermark_us: int = BEGINNING_US) -> list[UpsertStep]:
        """One batch; rows of windows that ended before it are late, and not for the state."""
        watermark_us = max(watermark_us, self.watermark_us)
        mine = [row for row in rows if not self.identity.windowed or row[2] > self.watermark_us]
        before = dict(self.model)
        for row in mine:
            group = (row[0], row[1], row[2]) if self.identity.windowed else (row[0], row[1])
            self.model[group] = self.model.get(group, 0) + row[3]
        delta = self._table(mine)
        parts = split(delta, KEYS, lane_starts(self.lanes), bits=self.identity.bits)
        done = [self._advance(lane, part, watermark_us) for lane, part in enumerate(parts)]
        self._check(done, before, watermark_us)
        if self.evicts:
            self.model = {group: total for group, total in self.model.items() if group[2] > watermark_us}
        self.watermark_us = watermark_us
        self.batch += 1
        return done

    def held(self) -> dict[Group, int]:
        """All rows as they are now."""
        found: dict[Group, int] = {}
        for state in self.states:
            after_us = state.closed_before_us if self.evicts else None
            mine = by_group(current(state, self.identity, after_us=after_us), self.identity)
            assert not found.keys() & mine.keys()
            found |= mine
        return found

    def _table(self, rows: Sequence[Row]) -> pa.Table:
        schema = schema_of(self.identity)
        chosen = [row if self.identity.windowed else (row[0], row[1], row[3]) for row in rows]
        columns = list(zip(*chosen, strict=True)) or [()] * len(schema)
        return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)

    def _advance(self, lane: int, part: pa.Table, watermark_us: int) -> UpsertStep:
        done = step(
            self.states[lane],
            part,
            self.identity,
            watermark_us=watermark_us,
            batch=self.batch,
            merge=bind(summed, identity=self.identity),
            evicts=self.evicts,
            most_runs=self.most_runs,
        )
        self.states[lane] = done.state
        added = () if done.added is None else (self._stored(lane, done),)
        self.runs = (*(run for run in self.runs if (run.batch, run.lo) not in done.dropped), *added)
        return done

    def _stored(self, lane: int, done: UpsertStep) -> Run:
        assert done.added is not None
        bundle = Bundle()
        bundle.add(done.added.table)
        name = f"data/00000001/{self.batch:016x}-d-{lane}.arrow"
        data, (segment,) = bundle.seal(name)
        self.store.put(name, data)
        lo, hi = lane_ranges(lane_starts(self.lanes))[lane]
        ends = {"min_end_us": done.added.min_end_us, "max_end_us": done.added.max_end_us}
        return Run(segment=segment, batch=done.added.batch, level=done.added.level, lo=lo, hi=hi, **ends)

    def _check(self, done: list[UpsertStep], before: dict[Group, int], watermark_us: int) -> None:
        touched: dict[Group, int] = {}
        for one in done:
            touched |= by_group(one.touched, self.identity)
            if one.replaced is not None:
                assert one.touched is not None
                now = one.touched.take(one.replaced.at).select(list(self.identity.names))
                assert now.equals(one.replaced.table.select(list(self.identity.names)))
                assert by_group(one.replaced.table, self.identity).items() <= before.items()
        replaced = sum(0 if one.replaced is None else one.replaced.table.num_rows for one in done)
        changed = {group: total for group, total in self.model.items() if before.get(group) != total}
        assert touched == changed
        assert replaced == len(changed.keys() & before.keys())


def oracle_of(data: st.DataObject, *, windowed: bool, evicts: bool, bits: int) -> Lanes:
    return Lanes(
        identity=Identity(keys=KEYS, windowed=windowed, bits=bits),
        evicts=evicts,
        lanes=data.draw(st.integers(1, 3), label="lanes"),
        most_runs=data.draw(st.sampled_from([2, 3, 64]), label="most runs"),
    )


@pytest.mark.parametrize(("windowed", "evicts"), [(False, False), (True, False), (True, True)])
@settings(deadline=None, max_examples=60)
@given(batches=batches_of_rows, bits=st.sampled_from([64, 4, 0]), data=st.data())
def test_rows_are_those_of_a_dictionary_for_any_cut_lanes_hashes_reloads_and_merges(
    windowed: bool, evicts: bool, batches: list[list[Row]], bits: int, data: st.DataObject
) -> None:
    lanes = oracle_of(data, windowed=windowed, evicts=evicts, bits=bits)

    for batch in batches:
        lanes.run(batch, data.draw(st.integers(-5, 45), label="watermark") if windowed else BEGINNING_US)
        assert lanes.held() == lanes.model
        assert sorted(run.key for state in lanes.states for run in state.runs) == sorted(
            (run.batch, run.lo) for run in lanes.runs
        )
        if data.draw(st.booleans(), label="reload"):
            lanes.reload(data.draw(st.integers(1, 4), label="lanes"))
            assert lanes.held() == lanes.model


def test_windows_that_end_leave_the_manifest_without_being_read() -> None:
    lanes = Lanes(identity=Identity(keys=KEYS, windowed=True), evicts=True)
    lanes.run([("a", 1.5, 10, 1), ("b", 1.5, 10, 1)], 5)
    lanes.run([("a", 1.5, 20, 1)], 5)
    listed = [run.batch for run in lanes.runs]

    (done,) = lanes.run([], 10)

    assert listed == [0, 1]
    assert done.dropped == ((0, 0),)
    assert [run.batch for run in lanes.runs] == [1]


def test_a_row_of_a_window_that_ends_in_the_same_batch_is_touched_and_not_stored() -> None:
    lanes = Lanes(identity=Identity(keys=KEYS, windowed=True), evicts=True)

    (done,) = lanes.run([("a", 1.5, 10, 1)], 10)

    assert done.touched is not None
    assert done.touched.num_rows == 1
    assert done.added is None


def test_keys_that_change_in_every_batch_do_not_pile_up() -> None:
    lanes = Lanes(identity=Identity(keys=KEYS, windowed=False), evicts=False)
    everyone: list[Row] = [(f"user-{at}", 1.5, 0, 1) for at in range(50)]

    held = []
    for _ in range(30):
        lanes.run(everyone)
        held.append(sum(state.rows for state in lanes.states))

    assert max(held) <= CROWDED * 50
    assert max(run.level for state in lanes.states for run in state.runs) <= 2


def test_the_newest_of_two_colliding_identities_is_found_of_each() -> None:
    lanes = Lanes(identity=Identity(keys=KEYS, windowed=False, bits=0), evicts=False)
    for value in range(3):
        lanes.run([(word, 1.5, 0, 10**value) for word in ("a", "b", "c")])

    assert lanes.held() == {(word, 1.5): 111 for word in "abc"}


def test_a_state_of_other_columns_is_refused() -> None:
    lanes = Lanes(identity=Identity(keys=KEYS, windowed=False), evicts=False)
    lanes.run([("a", 1.5, 0, 1)])
    lanes.identity = replace(lanes.identity, windowed=True)

    with pytest.raises(CheckpointError, match="another schema"):
        lanes.loaded(0, HASH_SPACE)


def test_nan_is_a_value_that_equals_itself() -> None:
    identity = Identity(keys=("real",), windowed=False)
    table = pa.table({"real": [math.nan, 1.0]})
    at = np.arange(2)

    assert identity.same(table, at, table, at).tolist() == [True, True]
