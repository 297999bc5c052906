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
from microstream.clock import BEGINNING_US, minus
from microstream.errors import CheckpointError
from microstream.plan.nodes import REVISION
from microstream.plan.specs import OutputMode
from microstream.state.lane import END
from microstream.state.lanes import lane_ranges, lane_starts, rescale, split
from microstream.state.loading import load_upserts
from microstream.state.upserts import CROWDED, Identity, Rules, UpsertState, UpsertStep, current, step

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


def by_group(table: pa.Table | None, identity: Identity, column: str = "sum") -> dict[Group, int]:
    """`column` of each group, of which there is one row."""
    if table is None:
        return {}
    found = {tuple(row[name] for name in identity.names): row[column] for row in table.to_pylist()}
    assert len(found) == table.num_rows
    return found


@dataclass
class Lanes:
    """Lanes of an operator with the list of runs of a manifest and a store, and beside them what they should hold."""

    identity: Identity
    mode: OutputMode = "update"
    lateness_us: int = 0
    lanes: int = 1
    most_runs: int = 64
    batch: int = 0
    watermark_us: int = BEGINNING_US
    closed_before_us: int = BEGINNING_US
    runs: tuple[Run, ...] = ()
    store: MemoryStore = field(default_factory=MemoryStore)
    states: list[UpsertState] = field(default_factory=list)
    model: dict[Group, int] = field(default_factory=dict)
    revisions: dict[Group, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reload(self.lanes)

    @property
    def schema(self) -> pa.Schema:
        """Of what is stored."""
        schema = schema_of(self.identity)
        return schema.append(pa.field(REVISION, pa.int64(), nullable=False)) if self.mode == "append" else schema

    def reload(self, lanes: int) -> None:
        """Forget what is in memory, and begin again with so many lanes."""
        self.lanes = lanes
        self.runs = rescale(self.runs, lane_starts(lanes))
        self.states = [self.loaded(lo, hi) for lo, hi in lane_ranges(lane_starts(lanes))]

    def loaded(self, lo: int, hi: int) -> UpsertState:
        times_us = {"closed_before_us": self.closed_before_us, "watermark_us": self.watermark_us}
        return load_upserts(self.runs, self.store, self.identity, lo=lo, hi=hi, schema=self.schema, **times_us)

    def run(self, rows: Sequence[Row], watermark_us: int = BEGINNING_US) -> list[UpsertStep]:
        """One batch; rows of windows that took no more rows before it are late, and not for the state."""
        watermark_us = max(watermark_us, self.watermark_us)
        mine = [row for row in rows if not self.identity.windowed or row[2] > self.closed_before_us]
        before = dict(self.model)
        for row in mine:
            group = (row[0], row[1], row[2]) if self.identity.windowed else (row[0], row[1])
            self.model[group] = self.model.get(group, 0) + row[3]
        delta = self._table(mine)
        parts = split(delta, KEYS, lane_starts(self.lanes), bits=self.identity.bits)
        done = [self._advance(lane, part, watermark_us) for lane, part in enumerate(parts)]
        self._check(done, before, watermark_us)
        self.closed_before_us = max(self.closed_before_us, minus(watermark_us, self.lateness_us))
        if self.mode != "complete" and self.identity.windowed:
            self.model = {group: total for group, total in self.model.items() if group[2] > self.closed_before_us}
        self.watermark_us = watermark_us
        self.batch += 1
        return done

    def held(self) -> dict[Group, int]:
        """All rows as they are now."""
        found: dict[Group, int] = {}
        for state in self.states:
            after_us = BEGINNING_US if self.mode == "complete" else state.closed_before_us
            mine = by_group(current(state, self.identity, after_us=after_us), self.identity)
            assert not found.keys() & mine.keys()
            found |= mine
        return found

    def _table(self, rows: Sequence[Row]) -> pa.Table:
        schema = schema_of(self.identity)
        chosen = [row if self.identity.windowed else (row[0], row[1], row[3]) for row in rows]
        columns = list(zip(*chosen, strict=True)) or [()] * len(schema)
        return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)

    def _changed(self, before: pa.Table, after: pa.Table, at: Any) -> Any:
        """As an operator would say it, after a look at what it was told."""
        names = list(self.identity.names)
        assert after.take(at).select(names).equals(before.select(names))
        assert len(set(at.tolist())) == before.num_rows
        news = np.ones(after.num_rows, np.bool_)
        news[at] = after.column("sum").to_numpy()[at] != before.column("sum").to_numpy()
        return news

    def _advance(self, lane: int, part: pa.Table, watermark_us: int) -> UpsertStep:
        done = step(
            self.states[lane],
            part,
            Rules(
                identity=self.identity,
                mode=self.mode,
                merge=bind(summed, identity=self.identity),
                changed=self._changed,
            ),
            watermark_us=watermark_us,
            closed_before_us=max(self.closed_before_us, minus(watermark_us, self.lateness_us)),
            batch=self.batch,
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
        given: dict[Group, int] = {}
        numbers: dict[Group, int] = {}
        for one in done:
            given |= by_group(one.given, self.identity)
            if self.mode == "append" and one.given is not None:
                numbers |= by_group(one.given, self.identity, REVISION)
        changed = {group: total for group, total in self.model.items() if before.get(group) != total}
        match self.mode:
            case "update":
                assert given == changed
            case "complete":
                assert given == self.model
            case "append":
                again = {group for group in changed if group[2] <= self.watermark_us}
                closing = {group for group in self.model if self.watermark_us < group[2] <= watermark_us}
                assert given == {group: self.model[group] for group in again | closing}
                self.revisions |= {group: self.revisions.get(group, -1) + 1 for group in given}
                assert numbers == {group: self.revisions[group] for group in given}


@pytest.mark.parametrize(
    ("windowed", "mode"),
    [(False, "update"), (False, "complete"), (True, "update"), (True, "complete"), (True, "append")],
)
@settings(deadline=None, max_examples=60)
@given(batches=batches_of_rows, bits=st.sampled_from([64, 4, 0]), lateness_us=st.integers(0, 30), data=st.data())
def test_rows_are_those_of_a_dictionary_for_any_cut_lanes_hashes_reloads_and_merges(
    windowed: bool,
    mode: OutputMode,
    batches: list[list[Row]],
    bits: int,
    lateness_us: int,
    data: st.DataObject,
) -> None:
    lanes = Lanes(
        identity=Identity(keys=KEYS, windowed=windowed, bits=bits),
        mode=mode,
        lateness_us=lateness_us if windowed else 0,
        lanes=data.draw(st.integers(1, 3), label="lanes"),
        most_runs=data.draw(st.sampled_from([2, 3, 64]), label="most runs"),
    )

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
    lanes = Lanes(identity=Identity(keys=KEYS, windowed=True))
    lanes.run([("a", 1.5, 10, 1), ("b", 1.5, 10, 1)], 5)
    lanes.run([("a", 1.5, 20, 1)], 5)
    listed = [run.batch for run in lanes.runs]

    (done,) = lanes.run([], 10)

    assert listed == [0, 1]
    assert done.dropped == ((0, 0),)
    assert [run.batch for run in lanes.runs] == [1]


def test_a_row_of_a_window_that_ends_in_the_same_batch_is_given_and_not_stored() -> None:
    lanes = Lanes(identity=Identity(keys=KEYS, windowed=True))

    (done,) = lanes.run([("a", 1.5, 10, 1)], 10)

    assert done.given is not None
    assert done.given.num_rows == 1
    assert done.added is None


def test_a_lane_without_any_key_of_a_run_drops_it_at_its_next_step() -> None:
    lanes = Lanes(identity=Identity(keys=KEYS, windowed=False))
    lanes.run([("a", 1.5, 0, 1)])
    lanes.reload(4)
    listed = len(lanes.runs)

    lanes.run([])

    assert listed == 4
    assert len(lanes.runs) == 1


def test_keys_that_change_in_every_batch_do_not_pile_up() -> None:
    lanes = Lanes(identity=Identity(keys=KEYS, windowed=False))
    everyone: list[Row] = [(f"user-{at}", 1.5, 0, 1) for at in range(50)]

    held = []
    for _ in range(30):
        lanes.run(everyone)
        held.append(sum(state.rows for state in lanes.states))

    assert max(held) <= CROWDED * 50
    assert max(run.level for state in lanes.states for run in state.runs) <= 2


def test_the_newest_of_two_colliding_identities_is_found_of_each() -> None:
    lanes = Lanes(identity=Identity(keys=KEYS, windowed=False, bits=0))
    for value in range(3):
        lanes.run([(word, 1.5, 0, 10**value) for word in ("a", "b", "c")])

    assert lanes.held() == {(word, 1.5): 111 for word in "abc"}


def test_a_state_of_other_columns_is_refused() -> None:
    lanes = Lanes(identity=Identity(keys=KEYS, windowed=False))
    lanes.run([("a", 1.5, 0, 1)])
    lanes.identity = replace(lanes.identity, windowed=True)

    with pytest.raises(CheckpointError, match="another schema"):
        lanes.loaded(0, HASH_SPACE)


def test_nan_is_a_value_that_equals_itself() -> None:
    identity = Identity(keys=("real",), windowed=False)
    table = pa.table({"real": [math.nan, 1.0]})
    at = np.arange(2)

    assert identity.same(table, at, table, at).tolist() == [True, True]
