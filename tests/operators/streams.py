"""Rows and sources for the tests of operators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from microstream.operators.rows import Rows
from microstream.plan.nodes import TIME, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Where test rows come from."""

    kind: str = "events"
    target: str = "events"
    finite: bool = True


def source(**columns: pa.DataType | str) -> Source:
    """A source of these columns and event time `at`; a type as text is one that is never null."""
    fields = [
        pa.field(name, pa.type_for_alias(kind), nullable=False) if isinstance(kind, str) else pa.field(name, kind)
        for name, kind in columns.items()
    ]
    schema = pa.schema([*fields, pa.field("at", TIME)])
    return Source(name="events", spec=Events(), schema=schema, event_time="at")


def rows_of(node: Any, first_origin: int = 0, **columns: list[Any]) -> Rows:
    """Rows of `node`, numbered from `first_origin`; event time 0, 1, 2, ... unless `at` is given."""
    count = len(next(iter(columns.values())))
    columns.setdefault("at", list(range(count)))
    arrays = [pa.array(columns[field.name], field.type) for field in node.schema]
    table = pa.Table.from_arrays(arrays, schema=node.schema)
    return Rows(table=table, origin=np.arange(first_origin, first_origin + count))
