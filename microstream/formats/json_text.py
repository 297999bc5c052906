"""The text of values as JSON holds it, by polars: imported when the first row is written (0.15 s)."""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow as pa

__all__ = ["objects_of", "texts_of"]

ISO_Z = "%Y-%m-%dT%H:%M:%S%.6fZ"
ISO_TIME = "%H:%M:%S%.6f"


def objects_of(table: pa.Table) -> pa.Array[Any]:
    """One JSON object per row as large_binary; see `json_encode.encode_rows`."""
    frame = _frame_of(table)
    columns = [_written(pl.col(name), kind).alias(name) for name, kind in frame.schema.items()]
    return _binary_of(frame.select(pl.struct(columns).struct.json_encode().alias("value"))["value"])


def texts_of(column: Any) -> pa.Array[Any]:
    """Each value alone as large_binary, without quotes; null stays null."""
    frame = _frame_of(pa.table({"value": column}))
    return _binary_of(frame.select(_written(pl.col("value"), frame.schema["value"]).cast(pl.String))["value"])


def _frame_of(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _binary_of(texts: pl.Series) -> pa.Array[Any]:
    column: Any = texts.cast(pl.Binary).to_arrow()
    binary: pa.Array[Any] = column.cast(pa.large_binary())
    return binary


def _written(expr: pl.Expr, kind: Any) -> pl.Expr:
    """`expr` with its times and bytes, at any depth, as text."""
    match kind:
        case pl.Datetime():
            return expr.dt.strftime(ISO_Z)
        case pl.Time():
            return expr.dt.strftime(ISO_TIME)
        case pl.Binary():
            return expr.bin.encode("base64")
        case pl.List() if _needs_text(kind):
            return expr.list.eval(_written(pl.element(), kind.inner))
        case pl.Struct() if _needs_text(kind):
            fields = [_written(expr.struct.field(f.name), f.dtype).alias(f.name) for f in kind.fields]
            return pl.when(expr.is_not_null()).then(pl.struct(fields))
        case _:
            return expr


def _needs_text(kind: Any) -> bool:
    match kind:
        case pl.Datetime() | pl.Time() | pl.Binary():
            return True
        case pl.List():
            return _needs_text(kind.inner)
        case pl.Struct():
            return any(_needs_text(field.dtype) for field in kind.fields)
        case _:
            return False
