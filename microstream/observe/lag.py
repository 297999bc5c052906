"""How far a query is behind its sources, partition by partition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from microstream.checkpoint.manifest import SourceState
from microstream.clock import BEGINNING_US

__all__ = ["LAG_COLUMNS", "lag_frame"]

LAG_COLUMNS = {
    "source": "str",
    "partition": "str",
    "position": "int64",
    "end": "Int64",
    "lag": "Int64",
    "max_event_time": "datetime64[us]",
    "status": "str",
}


def lag_frame(sources: Iterable[SourceState], ends: Mapping[str, Mapping[str, int]]) -> pd.DataFrame:
    """One row per source partition.

    Parameters
    ----------
    sources
        As the newest checkpoint has them.
    ends
        Source -> partition -> where it ends now; what is missing is unknown.

    Returns
    -------
    pandas.DataFrame
        `position` is the first offset that is not committed, `lag = end - position`; `max_event_time` is null before
        the first row.
    """
    rows = [
        (
            source.name,
            line.partition,
            line.next_offset,
            end,
            None if end is None else max(0, end - line.next_offset),
            None if line.max_event_time_us == BEGINNING_US else pd.Timestamp(line.max_event_time_us, unit="us"),
            str(line.status),
        )
        for source in sources
        for line in source.partitions
        for end in (ends.get(source.name, {}).get(line.partition),)
    ]
    return pd.DataFrame(rows, columns=list(LAG_COLUMNS)).astype(LAG_COLUMNS)
