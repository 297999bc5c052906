"""The node that rows come from."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from microstream.errors import PlanError
from microstream.plan.columns import require_column
from microstream.plan.processing_time import PROCESSING_TIME
from microstream.plan.specs import SourceSpec

__all__ = ["TIME", "Source", "kept_time"]

TIME = pa.timestamp("us")
"""Type of event times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Rows of `spec`. Event time is `event_time`, out of order by up to `delay_us`.

    `idle_timeout_us` None: a quiet partition holds the watermark for ever. A row further than `max_ahead_us` after
    the batch time is a bad record.
    """

    name: str
    spec: SourceSpec
    schema: pa.Schema
    event_time: str | None = None
    delay_us: int = 0
    idle_timeout_us: int | None = 30_000_000
    max_ahead_us: int = 86_400_000_000
    inferred: pa.Schema | None = None
    """All columns read, where they were inferred and not declared: stored in the checkpoint; a restart goes by it."""

    @property
    def takes_batch_time(self) -> bool:
        """Whether the event time of a row is the time of the batch that read it (semantics 35)."""
        return self.event_time == PROCESSING_TIME

    @property
    def read_schema(self) -> pa.Schema:
        """What the connector reads: all columns but the one that the engine adds."""
        kept = [column for column in self.schema if not self.takes_batch_time or column.name != PROCESSING_TIME]
        return pa.schema(kept)

    def __post_init__(self) -> None:
        if self.event_time is not None:
            require_column("event_time", self.event_time, self.schema)
            kind = self.schema.field(self.event_time).type
            if kind != TIME:
                raise PlanError(
                    f"source {self.name!r}: event_time={self.event_time!r} has type {kind}, not a time. Declare it as "
                    "'timestamp[ms]' (ISO text) or 'epoch[ms]' (a number) in schema=."
                )


def kept_time(column: str | None, schema: pa.Schema) -> str | None:
    """`column`, if it is still a time in `schema`."""
    kept = column is not None and column in schema.names and schema.field(column).type == TIME
    return column if kept else None
