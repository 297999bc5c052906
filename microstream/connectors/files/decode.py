"""Lines and columns to the table that a schema asks for, and which rows cannot be.

The rules for values are those of JSON records (`microstream.formats.json_columns`): a null where none may be, a time
that is none, an event time too far ahead make a row bad, and cost only that row.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from microstream.errors import ConnectorError, PlanError
from microstream.formats.event_time import note_event_times
from microstream.formats.json import Decoded, JsonDecoder, fault_of_value
from microstream.formats.json_columns import settle, wire_type
from microstream.formats.masks import as_mask, note
from microstream.plan.dtypes import EPOCH, WrongColumnsError, to_array

__all__ = [
    "CsvDecoder",
    "Format",
    "LineDecoder",
    "check_schema",
    "column_names",
    "decode_columns",
    "decode_wire",
    "line_decoder",
]

Format = Literal["json", "csv", "parquet"]

BLOCK_LINES = 32_768


class LineDecoder(Protocol):
    """Rows of lines; `header` is the first line of their file."""

    def __call__(self, lines: Sequence[bytes], header: bytes, *, latest_us: int) -> Decoded:
        """Line i is row i, or bad."""
        ...


def line_decoder(format: Format, schema: pa.Schema, event_time: str | None) -> LineDecoder:
    """What decodes lines of `format`. Raises PlanError where it cannot hold a type of `schema`."""
    if format == "csv":
        return CsvDecoder(schema, event_time)
    records = JsonDecoder(schema, event_time)
    return lambda lines, header, *, latest_us: records.decode(lines, latest_us=latest_us)


def check_schema(format: Format, schema: pa.Schema) -> None:
    """Raise PlanError where files of `format` cannot hold a type of `schema`."""
    if format != "parquet":
        line_decoder(format, schema, None)


def column_names(header: bytes) -> list[str]:
    """Names in the first line of a CSV file."""
    options = pacsv.ReadOptions(use_threads=False)
    line: Any = pa.BufferReader(header + b"\n")
    found = pacsv.read_csv(line, read_options=options)
    return list(found.column_names)


class CsvDecoder:
    """Rows of comma-separated values whose first line names the columns; a value holds no line break.

    An empty value is null, and "" in quotes an empty text. Columns that are not declared are ignored; a declared one
    that the file lacks is null.

    Examples
    --------
    >>> decoder = CsvDecoder(pa.schema([pa.field("n", pa.int64(), nullable=False)]), None)
    >>> decoded = decoder([b"a,1", b"b,x", b"c,"], b"name,n", latest_us=0)
    >>> decoded.table["n"].to_pylist(), decoded.bad
    ([1], ((1, "column 'n': CSV conversion error to int64: invalid value 'x'"), (2, 'n is null or missing, but
    declared not null')))
    """

    def __init__(self, schema: pa.Schema, event_time: str | None) -> None:
        nested = [field.name for field in schema if pa.types.is_nested(field.type)]
        if nested:
            raise PlanError(
                f"read_files: column {nested[0]!r} has type {schema.field(nested[0]).type}, which CSV cannot hold. Use "
                "JSON lines or Parquet."
            )
        self._schema, self._event_time = schema, event_time
        self._wire = pa.schema([pa.field(field.name, wire_type(field)) for field in schema])
        self._convert = pacsv.ConvertOptions(
            column_types=self._wire,
            include_columns=schema.names,
            include_missing_columns=True,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )

    def __call__(self, lines: Sequence[bytes], header: bytes, *, latest_us: int) -> Decoded:
        """Line i is row i, or bad."""
        names = column_names(header) if lines else []
        tables, bad = [self._schema.empty_table()], []
        for start in range(0, len(lines), BLOCK_LINES):
            faults: dict[int, str] = {}
            block = lines[start : start + BLOCK_LINES]
            parts = self._isolated(block, names, range(len(block)), faults)
            places = np.array([at for at in range(len(block)) if at not in faults], np.int64)
            decoded = decode_wire(pa.concat_tables(parts), self._schema, self._event_time, latest_us=latest_us)
            faults |= {int(places[at]): reason for at, reason in decoded.bad}
            tables.append(decoded.table)
            bad += [(start + at, reason) for at, reason in sorted(faults.items())]
        return Decoded(table=pa.concat_tables(tables), bad=tuple(bad))

    def _isolated(
        self, lines: Sequence[bytes], names: list[str], places: range, faults: dict[int, str]
    ) -> list[pa.Table]:
        """Tables of the good ones of `lines[places]`, halving what does not parse."""
        some = [lines[at] for at in places]
        try:
            return [self._parsed(some, names)]
        except pa.ArrowInvalid as problem:
            if len(some) == 1:
                faults[places[0]] = _said(problem, names)
                return [self._wire.empty_table()]
        half = len(places) // 2
        return [
            *self._isolated(lines, names, places[:half], faults),
            *self._isolated(lines, names, places[half:], faults),
        ]

    def _parsed(self, lines: Sequence[bytes], names: list[str]) -> pa.Table:
        # One row more, without values: a quote that is not closed on its line swallows it, which shows.
        block = b"\n".join([*lines, b"," * (len(names) - 1), b""])
        opened: Any = pa.BufferReader(block)
        table = pacsv.read_csv(
            opened,
            read_options=pacsv.ReadOptions(use_threads=False, column_names=names, block_size=len(block) + 1),
            parse_options=pacsv.ParseOptions(newlines_in_values=False, ignore_empty_lines=False),
            convert_options=self._convert,
        )
        if table.num_rows != len(lines) + 1:
            raise pa.ArrowInvalid("a quote is not closed; a value may hold no line break")
        return table.slice(0, len(lines))


def decode_wire(read: pa.Table, schema: pa.Schema, event_time: str | None, *, latest_us: int) -> Decoded:
    """`read`, whose columns are of the wire types of `schema`, without the rows that break it."""
    columns: list[Any] = []
    broken: dict[int, str] = {}
    for field in schema:
        values: Any = read.column(field.name).combine_chunks()
        settled, mask = settle(values, field)
        columns.append(settled)
        note(broken, mask, partial(fault_of_value, values, field))
    return _judged(columns, schema, event_time, latest_us, broken)


def decode_columns(
    read: pa.Table, rows: int, schema: pa.Schema, event_time: str | None, path: str, *, latest_us: int
) -> Decoded:
    """`rows` rows of a Parquet file, converted as far as nothing is lost, without the rows that break `schema`.

    A column that is not there is null.

    Raises
    ------
    ConnectorError
        A column has another type than declared: so has the whole file.
    """
    columns: list[Any] = []
    broken: dict[int, str] = {}
    for field in schema:
        column = _converted(read, rows, field, path)
        columns.append(column)
        if not field.nullable and column.null_count:
            note(broken, as_mask(pc.is_null(column)), partial(fault_of_value, column, field))
    return _judged(columns, schema, event_time, latest_us, broken)


def _judged(
    columns: Sequence[Any], schema: pa.Schema, event_time: str | None, latest_us: int, broken: dict[int, str]
) -> Decoded:
    """All `columns` as one table, without rows that are `broken` or whose event time is too far ahead."""
    table = pa.Table.from_arrays(list(columns), schema=schema)
    if event_time is not None:
        note_event_times(broken, event_time, table.column(event_time).combine_chunks(), latest_us)
    if broken:
        good = np.ones(table.num_rows, bool)
        good[list(broken)] = False
        table = table.filter(pa.array(good))
    return Decoded(table=table, bad=tuple(sorted(broken.items())))


def _converted(read: pa.Table, rows: int, field: pa.Field[Any], path: str) -> Any:
    """Column `field.name` of `read` in the type of `field`, NaN as null."""
    if field.name not in read.column_names:
        return pa.nulls(rows, field.type)
    values: Any = read.column(field.name).combine_chunks()
    if field.metadata and EPOCH in field.metadata and pa.types.is_integer(values.type):
        return settle(values.cast(pa.int64()), field)[0]
    try:
        column: Any = to_array(values, field.with_nullable(True), path)
    except WrongColumnsError as problem:
        raise ConnectorError(
            f"{path}: column {field.name!r} has type {values.type}, but schema= says {field.type}, and it does not fit "
            f"({problem.__cause__}). Correct schema=, or leave it out.",
            path=path,
        ) from problem
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column


def _said(problem: pa.ArrowInvalid, names: Sequence[str]) -> str:
    """The message of a line, without numbers of rows and columns that mean nothing to its reader."""
    said = str(problem).replace("CSV parse error: ", "").removeprefix("Row #1: ")
    for at, name in enumerate(names):
        said = said.replace(f"In CSV column #{at}: ", f"column {name!r}: ").replace("Row #1: ", "")
    return said
