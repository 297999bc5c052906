"""Window state of an operator's lane, whichever windows it has: step, loading, and what the manifest says of a run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pyarrow as pa

from microstream.checkpoint.manifest import Run
from microstream.checkpoint.store import ObjectStore
from microstream.operators.aggregate import merge, partial_schema, shrinks
from microstream.plan.nodes import Sliding, WindowAggregate
from microstream.runtime.task import RunPart
from microstream.state import lane, panes
from microstream.state.lane import END, LaneRun, Step, WindowState
from microstream.state.loading import load
from microstream.state.panes import PANE

__all__ = ["advance", "loaded", "run_part"]


def advance(
    state: WindowState,
    delta: pa.Table | None,
    node: WindowAggregate,
    *,
    watermark_us: int,
    batch: int,
    most_runs: int,
    unique: bool = False,
) -> Step:
    """Take in a batch's partials and close windows; see `state.lane.step`."""
    fold = partial(merge, node=node)
    if isinstance(node.window, Sliding):
        return panes.step(
            state,
            delta,
            window=node.window,
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


def loaded(
    runs: Sequence[Run], store: ObjectStore, node: WindowAggregate, *, lo: int, hi: int, closed_before_us: int
) -> WindowState:
    """State of a lane as a manifest names it; see `state.loading.load`."""
    slides = isinstance(node.window, Sliding)
    return load(
        runs,
        store,
        lo=lo,
        hi=hi,
        closed_before_us=closed_before_us,
        keys=node.keys,
        schema=partial_schema(node),
        by=PANE if slides else END,
        expired_us=node.window.expired_us(closed_before_us) if isinstance(node.window, Sliding) else None,
    )


def run_part(run: LaneRun, node: WindowAggregate) -> RunPart:
    """A run as it is reported: its first and its last end of a window."""
    first_us, last_us = run.min_end_us, run.max_end_us
    if isinstance(node.window, Sliding):
        first_us, last_us = node.window.waiting_us(first_us, last_us)
    return RunPart(level=run.level, rows=run.rows, min_end_us=first_us, max_end_us=last_us)
