"""Schemas that nobody declared: learnt from the newest records, shown, and kept by the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from microstream.checkpoint.open import open_store
from microstream.checkpoint.store import StoreError
from microstream.connectors.kafka.client import Cluster
from microstream.connectors.kafka.sample import newest
from microstream.errors import CheckpointError, PlanError
from microstream.formats.json_infer import infer_fields
from microstream.plan.dtypes import EPOCH, dtype_of
from microstream.plan.nodes import Sink, Source
from microstream.plan.retype import with_schemas
from microstream.plan.rules import in_order
from microstream.runtime.connecting import schema_of_source

__all__ = ["SAMPLE", "infer_schema", "infer_topics", "recalled", "show"]

SAMPLE = 1_000
"""Records that a schema is inferred from."""


def infer_schema(
    topics: str | Sequence[str],
    *,
    bootstrap_servers: str,
    event_time: str | None = None,
    config: Mapping[str, str | int | float | bool] | None = None,
) -> dict[str, Any]:
    """Columns of the newest 1,000 records of Kafka topics, as `schema=` of `read_kafka` takes them.

    `read_kafka` without `schema=` does the same; write down what this finds to be independent of what happens to be in
    the topic. Every column may be null. A field that was never anything but null is left out.

    Parameters
    ----------
    topics
        One topic, or several that hold the same kind of JSON record.
    bootstrap_servers
        "host:port", several separated by commas.
    event_time
        A column of whole numbers by this name counts from 1970: `epoch[ms]` or another unit, by their size.
    config
        Settings of librdkafka's consumer.

    Returns
    -------
    dict
        Column name to type name, or to an Arrow type where a name cannot say it (lists of objects).

    Raises
    ------
    PlanError
        There are no records, or they disagree; the message shows two that do.
    ConnectorError
        A topic is missing, or the cluster cannot be reached.
    """
    names = (topics,) if isinstance(topics, str) else tuple(topics)
    cluster = Cluster(bootstrap_servers=bootstrap_servers, config=tuple(sorted((config or {}).items())))
    return _written(infer_topics(cluster, names, event_time))


def infer_topics(cluster: Cluster, topics: Sequence[str], event_time: str | None) -> pa.Schema:
    """The schema of the newest records of `topics`."""
    of = f"topic {', '.join(topics)}"
    return infer_fields(newest(cluster, topics, SAMPLE), event_time=event_time, of=of)


def show(schema: pa.Schema, of: str) -> None:
    """Print a schema that was inferred, to be read and pasted: what it missed would be ignored in silence."""
    lines = "".join(f"    {name!r}: {kind!r},\n" for name, kind in _written(schema).items())
    print(f"{of}: schema={{\n{lines}}}")  # noqa: T201 - who gave no schema wants to see the one found


def recalled(
    sinks: tuple[Sink, ...], checkpoint: str | None, storage_options: Mapping[str, Any] | None
) -> tuple[Sink, ...]:
    """`sinks` over the schemas that the checkpoint stored for sources whose schema was inferred.

    Raises
    ------
    PlanError
        The plan does not fit a schema stored.
    CheckpointError
        The checkpoint cannot be read.
    """
    nodes = in_order(tuple(sink.child for sink in sinks))
    learnt = {node.name: node.inferred for node in nodes if isinstance(node, Source) and node.inferred is not None}
    if checkpoint is None or not learnt:
        return sinks
    store = open_store(checkpoint, dict(storage_options or {}))
    try:
        stored = {name: schema_of_source(name, store) for name in learnt}
    except StoreError as problem:
        raise CheckpointError.of(f"checkpoint {store.url}", [str(problem)], "Nothing was started.") from problem
    changed = {name: kept for name, kept in stored.items() if kept is not None and not kept.equals(learnt[name], True)}
    if not changed:
        return sinks
    for name, schema in changed.items():
        show(schema, f"{name}, as checkpoint {store.url} knows it")
    try:
        return with_schemas(sinks, changed)
    except PlanError as problem:
        raise PlanError(
            f"{problem} (By the schema stored in checkpoint {store.url} for {', '.join(changed)} when it was inferred "
            "first. Give schema= to read other columns.)"
        ) from problem


def _written(schema: pa.Schema) -> dict[str, Any]:
    """`schema` as people write it."""
    return {field.name: _word(field) for field in schema}


def _word(field: pa.Field[Any]) -> Any:
    kind: Any = field.type
    epoch = (field.metadata or {}).get(EPOCH)
    if epoch is not None:
        return epoch.decode()
    if kind == pa.timestamp("us"):
        return "timestamp[us]"
    if pa.types.is_struct(kind):
        return {child.name: _word(child) for child in kind}
    if pa.types.is_list(kind):
        item = _word(kind.value_field)
        return f"list[{item}]" if isinstance(item, str) else kind
    word = str(dtype_of(field.with_nullable(True)))
    return kind if "[pyarrow]" in word else word
