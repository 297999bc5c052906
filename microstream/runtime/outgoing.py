"""Rows that leave together, from the tables that lanes and batches left of them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from microstream.connectors.protocol import Writer
from microstream.errors import ConnectorError
from microstream.plan.nodes import Sink

__all__ = ["joined"]


def joined(tables: Sequence[pa.Table], sink: Sink, writer: Writer) -> pa.Table:
    """One table; of batches that were held, some may be of a plan with other columns.

    No tables are a whole result of which nothing is left.

    Raises
    ------
    ConnectorError
        The changed query gave a column another type.
    """
    if not tables:
        return writer.encode(sink.schema.empty_table(), event_time=sink.child.event_time)
    if all(table.schema == tables[0].schema for table in tables):
        return pa.concat_tables(tables)
    nullable = [table.cast(pa.schema([f.with_nullable(True) for f in table.schema])) for table in tables]
    try:
        return pa.concat_tables(nullable, promote_options="permissive")
    except pa.ArrowException as problem:
        raise ConnectorError(
            f"sink {sink.name!r}: rows held for every= cannot be joined with those of the changed query ({problem}). "
            "Start the query as it was before, stop it, which publishes what is held, and change it then.",
            sink=sink.name,
        ) from problem
