"""State of an operator's lane, whatever form it has: the step of a batch, what it emits, loading, and runs as told."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

import pyarrow as pa

from microstream.checkpoint.manifest import Run
from microstream.checkpoint.store import ObjectStore
from microstream.clock import BEGINNING_US, END_US
from microstream.operators.aggregate import changed, finish, merge, shrinks, state_schema
from microstream.plan.nodes import RunningAggregate, Sliding, Stateful, WindowAggregate
from microstream.runtime.task import RunPart
from microstream.runtime.watermark import closed_for_good_us
from microstream.state import lane, panes, upserts
from microstream.state.lane import END, LaneRun, Step, WindowState
from microstream.state.loading import load, load_upserts
from microstream.state.panes import PANE, per_window
from microstream.state.upserts import Identity, Rules, UpsertRun, UpsertState, UpsertStep, current

__all__ = ["LaneState", "LaneStep", "advance", "closed_rows", "emitted", "loaded", "run_part", "standing"]

LaneState: TypeAlias = WindowState | UpsertState
LaneStep: TypeAlias = Step | UpsertStep


def advance(
    state: LaneState,
    delta: pa.Table | None,
    node: Stateful,
    *,
    watermark_us: int,
    batch: int,
    most_runs: int,
    unique: bool = False,
) -> LaneStep:
    """Take in a batch's partials, and close or forget windows; see `state.lane.step` and `state.upserts.step`."""
    fold = partial(merge, node=node)
    window = node.window if isinstance(node, WindowAggregate) else None
    if isinstance(state, UpsertState):
        if delta is not None and isinstance(window, Sliding):
            delta, unique = per_window(delta, window, after_us=state.closed_before_us), False
        return upserts.step(
            state,
            delta,
            Rules(identity=_identity(node), mode=node.mode, merge=fold, changed=partial(changed, node=node)),
            watermark_us=watermark_us,
            closed_before_us=closed_for_good_us(node, state.closed_before_us, watermark_us),
            batch=batch,
            most_runs=most_runs,
            unique=unique,
        )
    if isinstance(window, Sliding):
        return panes.step(
            state,
            delta,
            window=window,
            watermark_us=watermark_us,
            batch=batch,
            merge=fold,
            most_runs=most_runs,
            blocks=shrinks(node),
            unique=unique,
        )
    return lane.step(
        state, delta, watermark_us=watermark_us, batch=batch, merge=fold, most_runs=most_runs, unique=unique
    )


def emitted(done: LaneStep, node: Stateful) -> pa.Table | None:
    """Rows of `node` that a batch gives by its output mode, sorted; None for none."""
    rows = done.closed if isinstance(done, Step) else done.given
    return None if rows is None else finish(rows, node)


def closed_rows(done: LaneStep, node: Stateful) -> int:
    """Rows emitted because their windows closed, corrections included."""
    if isinstance(done, UpsertStep):
        return 0 if node.mode != "append" or done.given is None else done.given.num_rows
    return 0 if done.closed is None else done.closed.num_rows


def standing(state: LaneState, node: Stateful) -> pa.Table | None:
    """Rows of `node` as they would be emitted if the input ended here; None for none."""
    if isinstance(state, UpsertState):
        keeps = isinstance(node, RunningAggregate) or node.mode == "complete"
        rows = current(state, _identity(node), after_us=BEGINNING_US if keeps else state.closed_before_us)
        return None if rows is None else finish(rows, node)
    last = 1 + max((run.batch for run in state.runs), default=0)
    return emitted(advance(state, None, node, watermark_us=END_US, batch=last, most_runs=2 + len(state.runs)), node)


def loaded(
    runs: Sequence[Run],
    store: ObjectStore,
    node: Stateful,
    *,
    lo: int,
    hi: int,
    closed_before_us: int,
    watermark_us: int,
) -> LaneState:
    """State of a lane as a manifest names it; see `state.loading`."""
    schema = state_schema(node)
    if isinstance(node, RunningAggregate) or node.mode != "append" or node.revises:
        return load_upserts(
            runs,
            store,
            _identity(node),
            lo=lo,
            hi=hi,
            closed_before_us=closed_before_us,
            watermark_us=watermark_us,
            schema=schema,
        )
    return load(
        runs,
        store,
        lo=lo,
        hi=hi,
        closed_before_us=closed_before_us,
        keys=node.keys,
        schema=schema,
        by=PANE if isinstance(node.window, Sliding) else END,
        expired_us=node.window.expired_us(closed_before_us) if isinstance(node.window, Sliding) else None,
    )


def run_part(run: LaneRun | UpsertRun, node: Stateful) -> RunPart:
    """A run as it is reported: its first and its last end of a window."""
    first_us, last_us = run.min_end_us, run.max_end_us
    if isinstance(run, LaneRun) and isinstance(node, WindowAggregate) and isinstance(node.window, Sliding):
        first_us, last_us = node.window.waiting_us(first_us, last_us)
    return RunPart(level=run.level, rows=run.rows, min_end_us=first_us, max_end_us=last_us)


def _identity(node: Stateful) -> Identity:
    return Identity(keys=node.keys, windowed=isinstance(node, WindowAggregate))
