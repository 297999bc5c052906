"""A checkpoint as people look at it: its batches, its operators, and the state of one, as frames. Reads only."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd
import pyarrow as pa

from microstream.checkpoint.commit import head, read_manifest
from microstream.checkpoint.keys import MANIFESTS, seq_of
from microstream.checkpoint.manifest import HASH_SPACE, Manifest, OperatorState, Segment, SinkState
from microstream.checkpoint.open import Location, open_store
from microstream.checkpoint.store import NotFoundError, ObjectStore, StoreError
from microstream.clock import BEGINNING_US, END_US
from microstream.errors import CheckpointError, PlanError
from microstream.later import CHECKPOINT as LATER
from microstream.later import later
from microstream.plan.dtypes import to_frame
from microstream.plan.nodes import Stateful
from microstream.plan.stored import node_of
from microstream.runtime.lane_state import loaded, standing

__all__ = ["Checkpoint", "open_checkpoint"]

T = TypeVar("T")

READERS = 16
"""Manifests that are read at a time: object stores answer slowly, but many at once."""

TRIES = 5

BATCHES = {
    "batch": "int64",
    "seq": "int64",
    "time": "datetime64[us]",
    "kind": "str",
    "epoch": "int64",
    "rows": "Int64",
    "watermark": "datetime64[us]",
    "state_rows": "int64",
    "state_bytes": "int64",
    "pending_rows": "int64",
    "finished": "bool",
    "commit_id": "str",
}

OPERATORS = {
    "operator": "str",
    "kind": "str",
    "mode": "str",
    "watermark": "datetime64[us]",
    "closed_before": "datetime64[us]",
    "lanes": "int64",
    "runs": "int64",
    "rows": "int64",
    "bytes": "int64",
}


def open_checkpoint(url: Location, storage_options: Mapping[str, Any] | None = None) -> Checkpoint:
    """Look at a checkpoint without a cluster, also while its query runs.

    Parameters
    ----------
    url
        Folder or URL, as given to `ms.start(checkpoint=...)`.
    storage_options
        Of fsspec, for object stores.

    Raises
    ------
    PlanError
        The URL is of no store that a checkpoint can be in.
    CheckpointError
        There is no checkpoint.
    """
    checkpoint = Checkpoint(open_store(url, storage_options))
    checkpoint.newest()
    return checkpoint


class Checkpoint:
    """What is committed under one URL. Nothing is cached: every call sees the checkpoint as it is then.

    Parameters
    ----------
    store
        Where it is.
    nodes
        Operator id -> node of the program at hand; the others are read from the checkpoint.
    """

    def __init__(self, store: ObjectStore, nodes: Mapping[str, Stateful] | None = None) -> None:
        self._store = store
        self._nodes = nodes or {}

    def __repr__(self) -> str:
        return f"<Checkpoint {self._store.url}>"

    if not TYPE_CHECKING:  # or misspelt names would pass

        def __getattr__(self, name):
            if name in LATER:
                raise later("a checkpoint", name, LATER)
            return object.__getattribute__(self, name)  # for its error, also of a property's own

    @property
    def url(self) -> str:
        """Where it is."""
        return self._store.url

    def newest(self) -> Manifest:
        """The newest manifest. Raises CheckpointError where there is none."""
        found = self._answer(lambda: head(self._store))
        if found is None:
            raise CheckpointError.of(
                self.url, ["there is no manifest"], "Is it the folder or URL given as checkpoint= of a query?"
            )
        return found

    def batches(self) -> pd.DataFrame:
        """One row per manifest that is retained, oldest first.

        Returns
        -------
        pandas.DataFrame
            `batch` (-1 before the first), `seq` (number of the manifest), `time` (when it was written), `kind`
            ("batch", or why else it was written), `epoch`, `rows` (offsets that the batch read, in Kafka also markers
            of transactions; null where the manifest before is gone), `watermark` (least of all operators, else of all
            sources; null before the first row and at the end), `state_rows` and `state_bytes` (as stored),
            `pending_rows` (committed, not yet confirmed by sinks), `finished`, `commit_id`.
        """
        manifests = self._retained()
        before = {manifest.seq: manifest for manifest in manifests}
        rows = [_batch_row(manifest, before.get(manifest.seq - 1)) for manifest in manifests]
        return pd.DataFrame(rows, columns=list(BATCHES)).astype(BATCHES)

    def operators(self) -> pd.DataFrame:
        """Stateful operators as of the newest manifest, one row each.

        Returns
        -------
        pandas.DataFrame
            `operator` (its id), `kind`, `mode`, `watermark` of its input, `closed_before` (windows that end at or
            before it have been emitted), `lanes`, `runs`, and `rows` and `bytes` of these runs as stored.
        """
        rows = [
            (
                state.id,
                state.kind,
                state.mode,
                _time(state.watermark_us),
                _time(state.closed_before_us),
                len(state.lane_starts),
                len(state.runs),
                *_size(run.segment for run in state.runs),
            )
            for state in self.newest().operators
        ]
        return pd.DataFrame(rows, columns=list(OPERATORS)).astype(OPERATORS)

    def state(self, operator: str, batch: int | None = None) -> pd.DataFrame:
        """What an operator remembers: the rows that it would emit if the input ended there; of one whose rows change,
        these rows as they are.

        Parameters
        ----------
        operator
            Its id: the name given by `.named()`, or one of `operators()`.
        batch
            As of after this batch; None: now. Older batches are there as long as their manifests are retained.

        Returns
        -------
        pandas.DataFrame
            Key columns, window columns and aggregates as they stand, with the types of the operator's output.

        Raises
        ------
        PlanError
            There is no such operator.
        CheckpointError
            The batch is not retained, or the checkpoint is damaged.
        """
        for _ in range(TRIES - 1):
            manifest = self.newest() if batch is None else self._at(batch)
            try:
                return self._state(manifest, operator)
            except CheckpointError:
                # Its bundles may have been collected between reading the manifest and reading them.
                if batch is not None or self.newest().floor <= manifest.seq:
                    raise
        return self._state(self.newest(), operator)

    def _state(self, manifest: Manifest, operator: str) -> pd.DataFrame:
        known = {state.id: state for state in manifest.operators}
        if operator not in known:
            raise PlanError(
                f"state({operator!r}): operators of {self.url}: {', '.join(known) or 'none'}.", operators=tuple(known)
            )
        state = known[operator]
        node = self._nodes.get(operator) or node_of(state.node)
        return to_frame(self._answer(lambda: _standing(state, node, self._store)))

    def _at(self, batch: int) -> Manifest:
        """The last manifest of `batch`. Batches only grow with the manifests' numbers."""
        seqs = self._seqs()

        def batch_of(seq: int) -> int:
            return self._answer(lambda: read_manifest(self._store, seq)).batch

        at = bisect_right(seqs, batch, key=batch_of)
        found = self._answer(lambda: read_manifest(self._store, seqs[at - 1])) if at else None
        if found is None or found.batch != batch:
            first, last = batch_of(seqs[0]), batch_of(seqs[-1])
            raise CheckpointError.of(
                self.url,
                [f"batch {batch} is not retained; there are batches between {first} and {last}"],
                "batches() lists them.",
            )
        return found

    def _seqs(self) -> list[int]:
        return [seq for key in self._answer(lambda: self._store.list(MANIFESTS)) if (seq := seq_of(key)) is not None]

    def _retained(self) -> list[Manifest]:
        def read_one(seq: int) -> Manifest | None:
            try:
                return read_manifest(self._store, seq)
            except NotFoundError:
                return None  # collected since it was listed

        with ThreadPoolExecutor(READERS, thread_name_prefix="microstream-manifests") as readers:
            return self._answer(lambda: [m for m in readers.map(read_one, self._seqs()) if m is not None])

    def _answer(self, question: Callable[[], T]) -> T:
        """What the store says. Raises CheckpointError where it says nothing."""
        try:
            return question()
        except StoreError as problem:
            raise CheckpointError.of(self.url, [str(problem).rstrip(".")], "Try again.") from problem


def _standing(state: OperatorState, node: Stateful, store: ObjectStore) -> pa.Table:
    """What `node` has, of all lanes."""
    finished = [node.schema.empty_table()]
    bounds = (*state.lane_starts, HASH_SPACE)
    for lo, hi in pairwise(bounds):
        times_us = {"closed_before_us": state.closed_before_us, "watermark_us": state.watermark_us}
        held = loaded(state.runs, store, node, lo=lo, hi=hi, **times_us)
        rows = standing(held, node)
        if rows is not None:
            finished.append(rows)
    table = pa.concat_tables(finished)
    order: list[tuple[str, Any]] = [
        (name, "ascending") for name in ("window_end", *node.keys) if name in table.schema.names
    ]
    return table.sort_by(order) if order else table


def _batch_row(manifest: Manifest, before: Manifest | None) -> tuple[Any, ...]:
    of_sources = min((source.watermark_us for source in manifest.sources), default=BEGINNING_US)
    watermark_us = min((state.watermark_us for state in manifest.operators), default=of_sources)
    return (
        manifest.batch,
        manifest.seq,
        _time(manifest.written_us),
        str(manifest.kind),
        manifest.epoch,
        None if before is None else _position(manifest) - _position(before),
        _time(watermark_us),
        *_size(run.segment for state in manifest.operators for run in state.runs),
        sum(segment.rows for sink in manifest.sinks for segment in _unconfirmed(sink)),
        manifest.finished,
        manifest.commit_id,
    )


def _unconfirmed(sink: SinkState) -> Iterable[Segment]:
    return (segment for batch in (*sink.pending, *sink.held) for lane in batch.lanes for segment in lane.segments)


def _position(manifest: Manifest) -> int:
    return sum(line.next_offset for source in manifest.sources for line in source.partitions)


def _size(segments: Iterable[Segment]) -> tuple[int, int]:
    """Rows and bytes; a run that lies in two lanes is one segment."""
    distinct = set(segments)
    return sum(segment.rows for segment in distinct), sum(segment.length for segment in distinct)


def _time(time_us: int) -> pd.Timestamp | None:
    return None if time_us in (BEGINNING_US, END_US) else pd.Timestamp(time_us, unit="us")
