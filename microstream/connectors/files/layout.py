"""Rows as Parquet files in hive folders: `country=de/day=2026-11-24/`. Pure: bytes out, nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from microstream.errors import BadRecordError, PlanError

__all__ = ["NULL", "check_columns", "encode_parquet", "folders_of", "partitioned"]

NULL = "__HIVE_DEFAULT_PARTITION__"
"""The value of a null, as in Hive, Spark and Arrow."""

LONGEST = 200
"""Bytes of one folder name: file systems end at 255, and stores have limits for the whole key."""


def check_columns(schema: pa.Schema, partition_cols: Sequence[str]) -> None:
    """Raise PlanError where rows of `schema` cannot be written as Parquet files partitioned by `partition_cols`."""
    for name in partition_cols:
        if name not in schema.names:
            raise PlanError.unknown_column("to_parquet(partition_cols=)", name, schema.names)
        kind = schema.field(name).type
        if not _has_text(kind):
            raise PlanError(
                f"to_parquet(partition_cols=): {name!r} has type {kind}; folders can be named by text, integers, "
                "booleans, dates and times. Assign a column of such a type."
            )
        if name.startswith(("_", ".")):
            raise PlanError(
                f"to_parquet(partition_cols=): {name!r} begins with {name[0]!r}, and readers take folders that do for "
                "hidden ones. Rename the column."
            )
    if len(set(partition_cols)) < len(partition_cols):
        raise PlanError(f"to_parquet(partition_cols=): a column is named twice in {', '.join(partition_cols)}.")
    rest = [field for field in schema if field.name not in partition_cols]
    if not rest:
        raise PlanError("to_parquet(partition_cols=): no column would be left for the files.")
    for field in rest:
        try:
            encode_parquet(pa.schema([field]).empty_table())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as problem:
            raise PlanError(f"to_parquet: Parquet has no type for {field.name!r}, {field.type} ({problem}).") from None


def folders_of(table: pa.Table, partition_cols: Sequence[str]) -> list[tuple[str, Any]]:
    """(folder with a "/" at its end, numbers of its rows in order), in the order in which folders come first.

    Raises
    ------
    BadRecordError
        A value is too long for the name of a folder.
    """
    names = [str(place) for place in range(len(partition_cols))]
    keys = pa.table([table.column(name) for name in partition_cols], names=names)
    places = keys.append_column("rows", pa.array(np.arange(table.num_rows)))
    groups = places.group_by(names, use_threads=False).aggregate([("rows", "list")])
    texts = [groups.column(name).cast(pa.large_string()).to_pylist() for name in names]
    found = []
    for values, rows in zip(zip(*texts, strict=True), groups.column("rows_list"), strict=True):
        folders = [_folder(name, value) for name, value in zip(partition_cols, values, strict=True)]
        found.append(("".join(f"{folder}/" for folder in folders), rows.values))
    return found


def partitioned(table: pa.Table, partition_cols: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
    """(folder, rows of its file): what the folder says is left out of the file, as in Hive. Rows keep their order."""
    if not partition_cols:
        yield "", table
        return
    rest = table.drop_columns(list(partition_cols))
    for folder, rows in folders_of(table, partition_cols):
        yield folder, rest.take(rows)


def encode_parquet(table: pa.Table) -> bytes:
    """One Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _folder(name: str, value: str | None) -> str:
    folder = f"{quote(name, safe='')}={NULL if value is None else quote(value, safe='')}"
    if len(folder) > LONGEST:
        raise BadRecordError(
            f"to_parquet: the folder {folder[:60]}… would have a name of {len(folder)} bytes, {LONGEST} are possible. "
            f"Partition by another column than {name!r}, or shorten its values.",
            partition=name,
            offset=None,
            reason="too long",
            record=folder[:LONGEST],
        )
    return folder


def _has_text(kind: Any) -> bool:
    types = pa.types
    return any(
        is_kind(kind)
        for is_kind in (types.is_large_string, types.is_string, types.is_integer, types.is_boolean, types.is_date)
    ) or (types.is_timestamp(kind) and kind.tz is None)
