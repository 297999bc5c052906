"""The query of a scenario, as a plan: windows over one or two topics, and what leaves it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pyarrow as pa

from microstream.plan.nodes import (
    Aggregate,
    Concat,
    Late,
    MapBatches,
    Node,
    RunningAggregate,
    Sink,
    Sliding,
    Source,
    Tumbling,
    WindowAggregate,
)
from microstream.plan.specs import OutputMode
from microstream.plan.stages import Stages, cut
from microstream.testing.simulation.broker import Broker
from microstream.testing.simulation.folder import SimFolder
from microstream.testing.simulation.kernel import WORLD, World
from microstream.testing.simulation.scenario import Scenario
from microstream.testing.simulation.sink import SimSink
from microstream.testing.simulation.source import EVENTS, SimSource, Topic

__all__ = ["CHANGES", "INNER", "LATE", "OUTER", "RAW", "compile_query", "sink_topics"]

INNER, OUTER, LATE, RAW, CHANGES = "inner", "outer", "late", "raw", "changes"
"""Names of the sinks and of their topics."""

FILES = "files"
FILES_EVERY_US = 5_000_000

LATENESS_US = 4_000_000
"""Less than rows come late, where they do."""

OUT_PARTITIONS = 2

MODES: Final[dict[str, OutputMode]] = {
    "running": "update",
    "windows": "update",
    "revisions": "append",
    "whole": "complete",
}
"""Output mode of `CHANGES`, by what changes."""

INNER_AGGREGATES = (
    Aggregate(name="n", column=None, how="size"),
    Aggregate(name="total", column="value", how="sum"),
    Aggregate(name="low", column="value", how="min"),
    Aggregate(name="high", column="value", how="max"),
)
OUTER_AGGREGATES = (
    Aggregate(name="windows", column=None, how="size"),
    Aggregate(name="n", column="n", how="sum"),
)


def draw_keys(rows: pa.Table) -> pa.Table:
    """User code that answers differently every time: the group of a row is drawn at random."""
    random = WORLD.get().random
    keys = pa.array([random.randrange(4) for _ in range(rows.num_rows)], pa.int64())
    return rows.set_column(rows.schema.get_field_index("key"), EVENTS.field("key"), keys)


def sink_topics(scenario: Scenario) -> tuple[str, ...]:
    """The output topics of `scenario`."""
    wanted = {
        INNER: True,
        OUTER: scenario.outer_us is not None,
        LATE: scenario.late,
        RAW: scenario.raw,
        CHANGES: bool(scenario.changes),
    }
    return tuple(name for name, there in wanted.items() if there)


def compile_query(
    world: World, broker: Broker, scenario: Scenario, topics: tuple[Topic, ...], folder: SimFolder
) -> Stages:
    """The plan of `scenario`, cut into stages; creates the output topics."""
    rows = _input(scenario, topics)
    grouped = rows
    if scenario.random_keys:
        grouped = MapBatches(child=rows, fn=draw_keys, schema=EVENTS, batch_format="arrow")
    inner = _windows(scenario, grouped, INNER)
    frames: dict[str, Node] = {INNER: inner, RAW: rows, LATE: Late(operator=inner)}
    if scenario.changes in ("running", "whole"):
        frames[CHANGES] = RunningAggregate(child=grouped, keys=("key",), aggregates=INNER_AGGREGATES, id=CHANGES)
    elif scenario.changes:
        lateness_us = LATENESS_US if scenario.changes == "revisions" else 0
        frames[CHANGES] = replace(_windows(scenario, grouped, CHANGES), lateness_us=lateness_us)
    if scenario.outer_us is not None:
        frames[OUTER] = WindowAggregate(
            child=inner,
            keys=("key",),
            window=Tumbling(size_us=scenario.outer_us),
            on="window_end",
            aggregates=OUTER_AGGREGATES,
            id=OUTER,
        )
    sinks = []
    for name in sink_topics(scenario):
        broker.create_topic(name, OUT_PARTITIONS)
        spec = SimSink(world=world, broker=broker, topic=name)
        mode = MODES[scenario.changes] if name == CHANGES else "append"
        sinks.append(Sink(child=frames[name], name=name, spec=spec, mode=mode))
    if scenario.files:
        every_us = FILES_EVERY_US if scenario.files == "rolled" else 0
        sinks.append(Sink(child=inner, name=FILES, spec=replace(folder, every_us=every_us)))
    return cut(tuple(sinks))


def _input(scenario: Scenario, topics: tuple[Topic, ...]) -> Node:
    sources = tuple(
        Source(
            name=topic.name,
            spec=SimSource(topic=topic, name=topic.name),
            schema=EVENTS,
            event_time="ts",
            delay_us=scenario.delay_us,
            idle_timeout_us=scenario.idle_timeout_us,
        )
        for topic in topics
    )
    return sources[0] if len(sources) == 1 else Concat(children=sources)


def _window(scenario: Scenario) -> Tumbling | Sliding:
    if scenario.every_us is None:
        return Tumbling(size_us=scenario.window_us)
    return Sliding(size_us=scenario.window_us, every_us=scenario.every_us)


def _windows(scenario: Scenario, rows: Node, id: str) -> WindowAggregate:
    return WindowAggregate(
        child=rows,
        keys=("key",),
        window=_window(scenario),
        on="ts",
        aggregates=INNER_AGGREGATES,
        id=id,
    )
