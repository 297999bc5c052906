"""From a source of a plan to a connector that can be opened, with its memory if it asks for one."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import cast

import pyarrow as pa

from microstream.checkpoint.source_log import SourceLog
from microstream.checkpoint.store import ObjectStore
from microstream.connectors.protocol import RememberingSource, SourceConnector
from microstream.errors import PlanError
from microstream.plan.nodes import Source

__all__ = ["connector_of", "remember_schemas", "schema_of_source"]

SCHEMA = "schema"
"""Name of the fact in a source's log."""


def connector_of(source: Source, store: ObjectStore) -> SourceConnector:
    """What opens `source` in the query whose checkpoint is `store`."""
    if isinstance(source.spec, RememberingSource):
        return source.spec.with_log(SourceLog(store, source.name))
    return cast(SourceConnector, source.spec)


def schema_of_source(name: str, store: ObjectStore) -> pa.Schema | None:
    """The schema that was inferred for source `name` when the query of `store` first started, if it was."""
    entry = SourceLog(store, name).get(SCHEMA)
    return None if entry is None else _read(entry[SCHEMA])


def remember_schemas(sources: Iterable[Source], store: ObjectStore) -> None:
    """Store the schemas that were inferred, once: they are those of the query from now on.

    Raises
    ------
    PlanError
        Another start of the query stored another one at the same time.
    """
    for source in sources:
        if source.inferred is None:
            continue
        data = base64.b64encode(source.inferred.serialize().to_pybytes()).decode()
        kept = SourceLog(store, source.name).create(SCHEMA, {SCHEMA: data, "text": str(source.inferred)})
        if not _read(kept[SCHEMA]).equals(source.inferred, True):
            raise PlanError(
                f"source {source.name!r}: another schema was inferred and stored by a start at the same time. Start "
                "again: the stored one counts."
            )


def _read(data: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(data)))
