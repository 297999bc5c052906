"""The first rows of a query, in this process: what `head()` runs."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace

import dask.config
import pyarrow as pa

from microstream.checkpoint.memory import MemoryStore
from microstream.errors import MicrostreamError
from microstream.plan.stages import Stages
from microstream.runtime.inline import InlineEngine
from microstream.runtime.ports import QuerySpec
from microstream.runtime.query import StreamingQuery, stopped_on_interrupt
from microstream.runtime.trigger import Continuously
from microstream.runtime.world import world
from microstream.settings import Settings

__all__ = ["preview"]

WAIT_S = 10.0
QUIET_S = 1.0
LOOK_S = 0.02
BATCH_RECORDS = 10_000
"""A few rows are wanted: the first of them should not wait for a hundred thousand others."""


def preview(stages: Stages, rows: int) -> pa.Table:
    """At least `rows` rows of the only sink, or all there are; in the order in which they come.

    A source that never ends is waited for `WAIT_S` at most, and ends earlier when something was read and nothing new
    came for `QUIET_S`. What was read by then is taken for all input.

    Raises
    ------
    MicrostreamError
        The query failed before there were enough rows: a source did not answer in that time, a function raised.
    """
    [sink] = stages.sinks
    settings = Settings.of(dask.config.get("microstream", {}))
    spec = QuerySpec(
        name="head",
        stages=stages,
        trigger=Continuously(),
        settings=replace(
            settings,
            max_records=min(settings.max_records, BATCH_RECORDS),
            source_wait_us=min(settings.source_wait_us, round(WAIT_S * 1e6)),
        ),
        lanes=1,
        default_lanes=1,
        default_start="earliest",
        takeover=False,
        storage_options={},
    )
    store = MemoryStore()
    query = StreamingQuery(spec.name, stages)
    run = threading.Thread(target=query._run, args=(spec, lambda: world(store, InlineEngine(store)), None), daemon=True)
    run.start()
    with stopped_on_interrupt(query):
        _watch(query, rows, endless=any(not node.spec.finite for node in stages.sources))
    if query.row_count() < rows:
        query.await_termination()
    return query._tables.table(sink.name).select(sink.schema.names)


def _watch(query: StreamingQuery, rows: int, *, endless: bool) -> None:
    """Wait for the query to end, and end it or its input when enough has come or waited for."""
    deadline, quiet_since = time.monotonic() + WAIT_S, None
    while not query._ended.wait(LOOK_S) and query.row_count() < rows:
        now = time.monotonic()
        quiet_since = (quiet_since or now) if query.has_read_all() else None
        is_quiet = quiet_since is not None and now - quiet_since >= QUIET_S
        # Before it has an id it waits for its sources, which settings bound by themselves.
        if endless and query.id and (is_quiet or now >= deadline):
            query.end_input()
            endless = False
    if query.is_active:
        # Rows that were not asked for may fail as they like.
        with suppress(MicrostreamError):
            query.stop()
