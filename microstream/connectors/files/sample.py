"""The schema of files, learnt from the first of them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from microstream.connectors.files.journal import UNIT_BYTES
from microstream.connectors.files.lines import lines_between, open_text
from microstream.connectors.files.listing import Found, asking, filesystem_of, find
from microstream.connectors.files.source import FileSource
from microstream.errors import PlanError
from microstream.formats.json_infer import Example, infer_fields
from microstream.plan.dtypes import canonical_schema

__all__ = ["infer_files"]

PIECE_BYTES = 1_000_000


def infer_files(source: FileSource, *, event_time: str | None, count: int) -> pa.Schema:
    """The schema of `source`: of the first `count` lines, from as many files as that takes, or of one Parquet file.

    Raises
    ------
    PlanError
        There is no file, or lines disagree.
    ConnectorError
        Files cannot be read.
    """
    files = filesystem_of(source.paths, source.storage_options)
    found: dict[str, Found] = {}
    for path in source.paths:
        there = find(files, path, required=False)
        found |= {one.path: one for one in sorted(there, key=lambda file: (file.modified_s, file.path))}
    if not found:
        raise PlanError(f"read_files({source.target}): there is no file to infer a schema from. Give schema=.")
    first = next(iter(found.values()))
    with asking(first.path):
        if source.format == "parquet":
            with files.open(first.path, "rb") as opened:
                return _without_nulls(pq.read_schema(opened))
        if source.format == "csv":
            return _of_csv(files, first, count)
        return infer_fields(_examples(files, list(found.values()), count), event_time=event_time, of=source.target)


def _examples(files: Any, found: list[Found], count: int) -> list[Example]:
    examples: list[Example] = []
    for file in found:
        if len(examples) >= count:
            break
        lines = _first_lines(files, file)
        examples += [Example(f"{file.path} line {at}", line) for at, line in enumerate(lines, 1) if line.strip()]
    return examples[:count]


def _of_csv(files: Any, file: Found, count: int) -> pa.Schema:
    lines = [line for line in _first_lines(files, file) if line.strip()][: count + 1]
    block = b"\n".join([*lines, b""])
    opened: Any = pa.BufferReader(block)
    try:
        table = pacsv.read_csv(
            opened,
            read_options=pacsv.ReadOptions(use_threads=False, block_size=len(block) + 1),
            convert_options=pacsv.ConvertOptions(null_values=[""], strings_can_be_null=True),
        )
    except pa.ArrowInvalid as problem:
        raise PlanError(f"the schema of {file.path} cannot be inferred: {problem}. Give schema=.") from problem
    # A time of day has no type of its own here.
    kinds = [pa.large_string() if pa.types.is_time(field.type) else field.type for field in table.schema]
    return _without_nulls(pa.schema(list(zip(table.column_names, kinds, strict=True))))


def _first_lines(files: Any, file: Found) -> list[bytes]:
    text = open_text(files, file.path, file.size)
    return lines_between(text, 0, PIECE_BYTES // UNIT_BYTES).texts


def _without_nulls(schema: pa.Schema) -> pa.Schema:
    """`schema` in our types, without columns of which nothing is known; everything may be null."""
    known = canonical_schema(pa.schema([field for field in schema if not pa.types.is_null(field.type)]))
    return pa.schema([field.with_nullable(True) for field in known])
