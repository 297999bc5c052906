"""Columns: checks of their names, and what becomes of them, as many nodes need it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from microstream.errors import PlanError

__all__ = ["element_field", "require_column", "require_distinct", "types_of"]


def require_column(where: str, column: str, schema: pa.Schema) -> None:
    """Raise PlanError unless `schema` has `column`."""
    if column not in schema.names:
        raise PlanError.unknown_column(where, column, schema.names)


def require_distinct(where: str, names: Sequence[str]) -> None:
    """Raise PlanError where two output columns have one name."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PlanError(f"{where}: two output columns are named {', '.join(map(repr, twice))}. Rename one of them.")


def types_of(schema: pa.Schema) -> dict[str, str]:
    """Column -> type, whether it may be null or not."""
    return {column.name: str(column.type) for column in schema}


def element_field(field: pa.Field[Any]) -> pa.Field[Any]:
    """The column that a column of lists becomes when each element is a row."""
    kind: Any = field.type
    return pa.field(field.name, kind.value_type)
