"""One null and one zero for floats."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["float_rules"]


def float_rules(column: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    """Null for NaN and one zero (adding 0.0 makes 0.0 of -0.0): Arrow groups by bits, pandas by value."""
    if not pa.types.is_floating(column.type):
        return column
    zero: Any = pa.scalar(0.0, column.type)
    values: pa.ChunkedArray[Any] = pc.add(column, zero)
    not_a_number = pc.is_nan(values)
    if not pc.any(not_a_number).as_py():
        return values
    without: pa.ChunkedArray[Any] = pc.if_else(not_a_number, pa.scalar(None, column.type), values)
    return without
