"""From a source of a plan to a connector that can be opened, with its memory if it asks for one."""

from __future__ import annotations

from typing import cast

from microstream.checkpoint.source_log import SourceLog
from microstream.checkpoint.store import ObjectStore
from microstream.connectors.protocol import RememberingSource, SourceConnector
from microstream.plan.nodes import Source

__all__ = ["connector_of"]


def connector_of(source: Source, store: ObjectStore) -> SourceConnector:
    """What opens `source` in the query whose checkpoint is `store`."""
    if isinstance(source.spec, RememberingSource):
        return source.spec.with_log(SourceLog(store, source.name))
    return cast(SourceConnector, source.spec)
