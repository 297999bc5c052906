"""Rebuild the state of a lane from the runs that a manifest lists."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from microstream.checkpoint.bundle import read_segments
from microstream.checkpoint.manifest import HASH_SPACE, Run
from microstream.checkpoint.store import ObjectStore
from microstream.errors import CheckpointError, InternalError
from microstream.state.hashing import HASH_BITS, hash_keys
from microstream.state.lane import END, LaneRun, WindowState
from microstream.state.upserts import Identity, UpsertRun, UpsertState

__all__ = ["load", "load_upserts"]


def load(
    runs: Sequence[Run],
    store: ObjectStore,
    *,
    lo: int,
    hi: int,
    closed_before_us: int,
    keys: Sequence[str],
    schema: pa.Schema,
    by: str = END,
    expired_us: int | None = None,
    bits: int = HASH_BITS,
) -> WindowState:
    """State of the lane `[lo, hi)` as it was after the batch whose manifest lists `runs`.

    Parameters
    ----------
    runs
        Of the operator; those of other lanes are left out. Ranges are cut at lanes (see `lanes.rescale`).
    store
        Where the segments are.
    lo, hi
        Hashes of the lane, half-open.
    closed_before_us
        Of the operator: rows of windows that end at or before it were emitted.
    keys
        Key columns.
    schema
        Of the partials that this plan works with.
    by
        Column by which runs are sorted.
    expired_us
        Rows with at most this in column `by` do not count; None: `closed_before_us`.
    bits
        See `hashing.hash_keys`.

    Raises
    ------
    CheckpointError
        A segment is damaged, missing, or of another schema.
    StoreError
        The store cannot be read now.
    """
    # A run without live rows stays in the state until the next step, which drops it from the manifest.
    after_us = closed_before_us if expired_us is None else expired_us
    loaded = tuple(
        LaneRun.of(
            _open(_owned(run, table, keys, bits), by, after_us),
            batch=run.batch,
            lo=run.lo,
            level=run.level,
            unique=True,
            by=by,
        )
        for run, table in _read(runs, store, lo, hi, schema)
    )
    return WindowState(lo=lo, closed_before_us=closed_before_us, runs=loaded)


def load_upserts(
    runs: Sequence[Run],
    store: ObjectStore,
    identity: Identity,
    *,
    lo: int,
    hi: int,
    closed_before_us: int,
    watermark_us: int,
    schema: pa.Schema,
) -> UpsertState:
    """As `load`, of an operator whose rows are replaced; `schema` is that of its rows."""
    loaded = tuple(
        UpsertRun.of(
            _owned(run, table, identity.keys, identity.bits), identity, batch=run.batch, lo=run.lo, level=run.level
        )
        for run, table in _read(runs, store, lo, hi, schema)
    )
    return UpsertState(lo=lo, closed_before_us=closed_before_us, watermark_us=watermark_us, runs=loaded)


def _read(runs: Sequence[Run], store: ObjectStore, lo: int, hi: int, schema: pa.Schema) -> list[tuple[Run, pa.Table]]:
    """The runs of the lane `[lo, hi)` in order of (batch, lo), as they are stored."""
    mine = sorted((run for run in runs if run.lo < hi and lo < run.hi), key=lambda run: (run.batch, run.lo))
    for run in mine:
        if run.lo < lo or hi < run.hi:
            raise InternalError(f"batch {run.batch}: run [{run.lo}, {run.hi}) crosses the lane [{lo}, {hi})")
    tables = read_segments(store, [run.segment for run in mine])
    other = [run.segment.object for run, table in zip(mine, tables, strict=True) if not _is(schema, table)]
    if other:
        raise CheckpointError.of(
            store.url,
            [f"{name} holds state of another schema" for name in other],
            "The plan changed: start the query that wrote it, or use a new checkpoint.",
        )
    return list(zip(mine, tables, strict=True))


def _is(schema: pa.Schema, table: pa.Table) -> bool:
    return (table.schema.names, table.schema.types) == (schema.names, schema.types)


def _owned(run: Run, table: pa.Table, keys: Sequence[str], bits: int) -> pa.Table:
    """Rows of `run` that are of its hash range, which a rescale may have narrowed."""
    if (run.lo, run.hi) == (0, HASH_SPACE):
        return table
    hashes = hash_keys(table, keys, bits=bits)
    counts = (hashes >= np.uint64(run.lo)) & (hashes <= np.uint64(run.hi - 1))
    return table if counts.all() else table.filter(pa.array(counts))


def _open(table: pa.Table, by: str, after_us: int) -> pa.Table:
    """Rows that have more than `after_us` in column `by`: of open windows."""
    counts = table.column(by).to_numpy() > after_us
    return table if counts.all() else table.filter(pa.array(counts))
