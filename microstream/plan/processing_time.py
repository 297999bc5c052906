"""Event time that is the time of the batch which read a row (semantics 35): a column that no connector knows."""

from __future__ import annotations

import pyarrow as pa

from microstream.errors import PlanError

__all__ = ["FIELD", "PROCESSING_TIME", "with_processing_time"]

PROCESSING_TIME = "_processing_time"
"""As `event_time=` of a source, and the name of the column that the engine then adds."""

FIELD = pa.field(PROCESSING_TIME, pa.timestamp("us"), nullable=False)


def with_processing_time(schema: pa.Schema) -> pa.Schema:
    """`schema` of what a source reads, and the column that the engine adds, last.

    Raises
    ------
    PlanError
        The source has a column of that name itself.
    """
    if PROCESSING_TIME in schema.names:
        raise PlanError(
            f"event_time={PROCESSING_TIME!r} adds a column of that name, the time at which each row was read, but the "
            "source has such a column itself. Rename it or leave it out of schema=; or name another event_time=."
        )
    return schema.append(FIELD)
