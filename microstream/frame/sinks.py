"""Sinks as values, and how a query is started from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from microstream.checkpoint.open import Location, location_text
from microstream.connectors.kafka.spec import KafkaSink, KafkaSource
from microstream.connectors.memory.sink import MemorySink, NullSink
from microstream.errors import PlanError
from microstream.formats.registry import RegistryConfig, registry_of
from microstream.frame.run import explain_sinks, start_sinks
from microstream.plan.modes import with_modes
from microstream.plan.nodes import Node, Sink, Source
from microstream.plan.rules import in_order
from microstream.plan.specs import OutputMode, SinkSpec
from microstream.runtime.changes import Change
from microstream.runtime.query import StreamingQuery
from microstream.runtime.trigger import Trigger

__all__ = [
    "Delivery",
    "Format",
    "OutputMode",
    "StreamSink",
    "explain",
    "kafka_sink",
    "memory_sink",
    "null_sink",
    "sink_of",
    "start",
]

Delivery = Literal["exactly_once", "at_least_once"]
Format = Literal["json", "text", "raw", "arrow", "avro", "protobuf"]


@dataclass(frozen=True, slots=True)
class StreamSink:
    """Where rows of a frame leave the query; nothing runs until it is started."""

    _node: Sink

    @property
    def name(self) -> str:
        """Its name within the query."""
        return self._node.name

    def start(
        self,
        *,
        name: str | None = None,
        checkpoint: Location | None = None,
        trigger: str | Trigger = "1s",
        storage_options: Mapping[str, Any] | None = None,
        lanes: int | None = None,
        client: Any = None,
        takeover: bool = False,
        max_records: int | None = None,
        max_span: str | None = None,
        retain: str | None = None,
        on_change: Mapping[str, Change] | None = None,
    ) -> StreamingQuery:
        """Start a query of this one sink; see `microstream.start`."""
        return start(
            self,
            name=name,
            checkpoint=checkpoint,
            trigger=trigger,
            storage_options=storage_options,
            lanes=lanes,
            client=client,
            takeover=takeover,
            max_records=max_records,
            max_span=max_span,
            retain=retain,
            on_change=on_change,
        )

    def explain(self) -> str:
        """The compiled plan of this one sink as text: stages, exchanges, and what the sink guarantees. Print it."""
        return explain_sinks((self._node,))

    def __repr__(self) -> str:
        return f"<sink {self.name!r}: {self._node.spec.kind} {self._node.spec.target}>"


def start(
    *sinks: StreamSink,
    name: str | None = None,
    checkpoint: Location | None = None,
    trigger: str | Trigger = "1s",
    storage_options: Mapping[str, Any] | None = None,
    lanes: int | None = None,
    client: Any = None,
    takeover: bool = False,
    max_records: int | None = None,
    max_span: str | None = None,
    retain: str | None = None,
    on_change: Mapping[str, Change] | None = None,
) -> StreamingQuery:
    """Start one query that feeds all `sinks`, committed together.

    Parameters
    ----------
    *sinks
        From `frame.to_kafka(...)`, `.to_memory()` and the like; at least one.
    name
        Of the query; the first sink's by default. A query of this name that runs in this process is stopped first.
    checkpoint
        Folder or URL ("s3://bucket/query") that holds state, offsets and pending output. None only where no sink
        outlives the process: then the query forgets everything at its end.
    trigger
        "1s" or `ms.every("1s")`: a batch at most that often. `ms.continuously()`: as soon as there is data.
        `ms.available_now()`: everything that is there, then stop.
    storage_options
        Of fsspec, for `checkpoint`.
    lanes
        Units of parallelism per stage. None: those of the checkpoint, else one per worker thread, at most 16.
    client
        A `distributed.Client` or a scheduler's address. None: a local cluster that ends with the query.
    takeover
        Take the checkpoint from another driver at once, without looking whether it still lives.
    max_records
        Records of one batch at most, over all partitions.
    max_span
        Event time that a backlog may advance in one batch, a duration such as "1h".
    retain
        For how long one checkpoint per hour is kept, a duration such as "2D".
    on_change
        What is to become of parts of the checkpoint that a changed query no longer fits; without it the query does not
        start. By id or name: "drop" for an operator or source that is gone, whose state or position is forgotten, and
        for a sink that is gone or writes elsewhere, whose rows that are committed but not yet published are lost;
        "reset" for an operator with other keys, window, aggregates or kind: it starts empty, so its first windows hold
        only what comes from now on. Windows that were closed stay closed. Where several parts have one name, write
        "operator:NAME", "source:NAME" or "sink:NAME". Parts that fit are kept whatever it says.

    Returns
    -------
    StreamingQuery
        Once it owns its checkpoint.

    Raises
    ------
    PlanError
        The query cannot run as written.
    CheckpointError
        The checkpoint belongs to another plan, is damaged, or is owned by another driver that lives.
    """
    for sink in sinks:
        if not isinstance(sink, StreamSink):
            raise PlanError(f"start({sink!r:.60}): give sinks, as in ms.start(frame.to_kafka('topic')).")
    return start_sinks(
        tuple(sink._node for sink in sinks),
        name=name,
        checkpoint=None if checkpoint is None else location_text(checkpoint),
        trigger=trigger,
        storage_options=storage_options,
        lanes=lanes,
        client=client,
        takeover=takeover,
        on_change=on_change,
        settings={"max_records": max_records, "max_span": max_span, "retain": retain},
    )


def explain(*sinks: StreamSink) -> str:
    """The compiled plan of the query that feeds all `sinks`, as text."""
    return explain_sinks(tuple(sink._node for sink in sinks))


def kafka_sink(
    node: Node,
    topic: str,
    *,
    bootstrap_servers: str | None,
    key: str | Sequence[str] | None,
    format: Format,
    schema_registry: RegistryConfig | None,
    delivery: Delivery,
    config: Mapping[str, str | int | float | bool] | None,
    name: str | None,
    output_mode: OutputMode | None,
) -> StreamSink:
    """Rows of `node` to a topic; the query's only cluster, where none is named."""
    if delivery not in ("exactly_once", "at_least_once"):
        raise PlanError(f"to_kafka: delivery={delivery!r} is neither 'exactly_once' nor 'at_least_once'.")
    spec = KafkaSink(
        topic=topic,
        bootstrap_servers=bootstrap_servers or _only_cluster(node),
        key=key if key is None or isinstance(key, str) else tuple(key),
        delivery=delivery,
        format=format,
        registry=None if schema_registry is None else registry_of("to_kafka", format, schema_registry),
        config=tuple(sorted((config or {}).items())),
    )
    return sink_of(node, name or topic, spec, output_mode)


def memory_sink(node: Node, name: str, output_mode: OutputMode | None = None) -> StreamSink:
    """Rows of `node` to a table in the driver."""
    return sink_of(node, name, MemorySink(), output_mode)


def null_sink(node: Node, name: str, output_mode: OutputMode | None = None) -> StreamSink:
    """Rows of `node` to nowhere."""
    return sink_of(node, name, NullSink(), output_mode)


def sink_of(node: Node, name: str, spec: SinkSpec, output_mode: OutputMode | None) -> StreamSink:
    """Rows of `node` to `spec`.

    Raises
    ------
    PlanError
        `node` has no rows of that mode, or `spec` does not take them.
    """
    sink = Sink(child=node, name=name, spec=spec, mode=output_mode)
    with_modes((sink,))
    return StreamSink(sink)


def _only_cluster(node: Node) -> str:
    specs = [source.spec for source in in_order((node,)) if isinstance(source, Source)]
    clusters = sorted({spec.bootstrap_servers for spec in specs if isinstance(spec, KafkaSource)})
    if len(clusters) != 1:
        found = f"reads from {', '.join(clusters)}" if clusters else "reads no Kafka topic"
        raise PlanError(f"to_kafka: give bootstrap_servers=, because the query {found}.")
    return clusters[0]
