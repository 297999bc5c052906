"""JSON messages to Arrow: one block at a time, message i is row i, and a bad message costs only itself.

Where few flat fields are wanted, `json_records` reads what it can. For the rest, and for all other schemas,
pyarrow.json reads a block of joined messages and knows nothing of messages. The rows line up with them because

1. every message starts with "{" and ends with "}", so a joint reads "}", newline, "{";
2. strict JSON has no place for that inside a value: a string may hold no raw newline, an array or object would need a
   comma. So each message is a run of whole top-level values, the first of them an object: at least one row;
3. the rows are as many as the messages: then each message is exactly one.

pyarrow.json does not look whether text is UTF-8, so that is checked first. A block that does not parse is taken apart,
and the same parser judges the parts: a message is good or bad whatever its neighbours are.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.json as pj

from microstream.formats.event_time import note_event_times
from microstream.formats.json_absent import absent_fields
from microstream.formats.json_columns import settle, wire_type
from microstream.formats.json_faults import clipped, fault_of_kind
from microstream.formats.json_records import RecordReader
from microstream.formats.masks import note
from microstream.formats.protocol import Decoded

__all__ = ["Decoded", "JsonDecoder"]

log = logging.getLogger("microstream.json")

BLOCK_MESSAGES = 8_192
"""Large enough for the parser's full speed, small enough for the cache; one bad message repeats little work."""

WHITESPACE = b" \t\r\n"
OPENING, CLOSING = b"{}"

Places = npt.NDArray[np.int64]


class JsonDecoder:
    """Reads objects with the fields of `schema`; unknown fields are ignored, a missing one is null (see `Decoder`).

    A message is bad when it is not exactly one JSON object (whitespace around it is fine), a field has another type,
    one that is not nullable is null or missing, or a time is no time. Integers are accepted for floats, but not 1.0 or
    "1" for integers. NaN, Infinity and -Infinity (which Python's json module writes) are accepted for floats, NaN as
    null. Decimals are text or numbers, binary is base64, dates and times of day are ISO text. Metadata `microstream:
    epoch[s|ms|us|ns]` makes a `timestamp[us]` field a number, also in lists and structs. Of a field that is given twice
    the last value counts.

    Parameters
    ----------
    schema
        Only the fields needed. Times are `timestamp[us]` without zone, meaning UTC.
    event_time
        Name of the field that must be present and not too far in the future, or None.

    Raises
    ------
    PlanError
        JSON cannot hold a type of `schema`.

    Examples
    --------
    >>> decoder = JsonDecoder(pa.schema([pa.field("price", pa.int64(), nullable=False)]))
    >>> decoded = decoder.decode([b'{"price": 7, "note": "x"}', b'{"price": "8"}', b'{"price": 9}'])
    >>> decoded.table["price"].to_pylist(), decoded.bad
    ([7, 9], ((1, "price is '8', not int64"),))
    """

    def __init__(self, schema: pa.Schema, event_time: str | None = None) -> None:
        self._schema = schema
        self._event_time = event_time
        fields = [pa.field(field.name, wire_type(field)) for field in schema]
        self._wire = pa.schema(fields)
        self._document = pa.struct(fields)
        self._parse_options = pj.ParseOptions(explicit_schema=self._wire, unexpected_field_behavior="ignore")
        self._records = RecordReader(schema, self._wire) if RecordReader.fits(self._wire) else None
        self._has_looked = False

    def decode(self, messages: Sequence[bytes], *, latest_us: int | None = None) -> Decoded:
        """Rows of `messages`; an event time after `latest_us` (microseconds since 1970) makes a message bad."""
        tables, bad = [self._schema.empty_table()], []
        for start in range(0, len(messages), BLOCK_MESSAGES):
            table, faults = self._decode_block(messages[start : start + BLOCK_MESSAGES], latest_us)
            tables.append(table)
            bad += [(start + at, reason) for at, reason in faults]
        table = pa.concat_tables(tables)
        if table.num_rows and not self._has_looked:
            self._has_looked = True
            for said in absent_fields(table, messages[0]):
                log.warning("%s", said)
        if not self._schema.names:  # concat_tables forgets how many rows a table without columns has
            table = pa.table({"row": pa.nulls(len(messages) - len(bad))}).select([])
        return Decoded(table=table, bad=tuple(bad))

    def _decode_block(self, messages: Sequence[bytes], latest_us: int | None) -> tuple[pa.Table, list[tuple[int, str]]]:
        faults: dict[int, str] = {}
        read, places = self._read(messages, faults)
        table, broken = self._settled(read, latest_us)
        if broken:
            faults |= {int(places[row]): reason for row, reason in broken.items()}
            good = np.ones(len(places), bool)
            good[list(broken)] = False
            table = table.filter(pa.array(good))
        return table, sorted(faults.items())

    def _read(self, messages: Sequence[bytes], faults: dict[int, str]) -> tuple[pa.Table, Places]:
        """Rows in wire types, and the index of the message of each; the reasons of other messages go to `faults`."""
        if self._records is None:
            return self._read_block(messages, faults)
        read, others = self._records.read(messages)
        if not others:
            return read, np.arange(len(messages))
        faults_of_others: dict[int, str] = {}
        more, places_of_more = self._read_block([messages[at] for at in others], faults_of_others)
        left = np.array(others)
        faults |= {others[at]: reason for at, reason in faults_of_others.items()}
        places = np.concatenate([np.delete(np.arange(len(messages)), left), left[places_of_more]])
        order = np.argsort(places)
        return pa.concat_tables([read, more]).take(order), places[order]

    def _read_block(self, messages: Sequence[bytes], faults: dict[int, str]) -> tuple[pa.Table, Places]:
        read = self._parse(messages)
        if read is None:
            messages = [message.strip(WHITESPACE) for message in messages]
            read = self._parse(messages)
        if read is not None:
            return read, np.arange(len(messages))
        likely = self._screen(messages, faults)
        plain = {at: self._rewritten(messages[at]) for at in likely}
        parts = list(self._isolate(plain, likely, faults))
        read = pa.concat_tables([self._wire.empty_table(), *parts])
        return read, np.array([at for at in likely if at not in faults], np.int64)

    def _parse(self, messages: Sequence[bytes]) -> pa.Table | None:
        """Row i of message i, or None when any message is bad (see the proof at the top of this file)."""
        if not messages:
            return self._wire.empty_table()
        if not _are_framed(messages):
            return None
        block = b"\n".join(messages)
        if not _is_utf8(block):
            return None
        reader: Any = pa.BufferReader(block)
        options = pj.ReadOptions(use_threads=False, block_size=len(block) + 1)
        try:
            table = pj.read_json(reader, read_options=options, parse_options=self._parse_options)
        except pa.ArrowInvalid:
            return None
        return table if table.num_rows == len(messages) else None

    def _screen(self, messages: Sequence[bytes], faults: dict[int, str]) -> list[int]:
        """Indices of messages that look good; the others' reasons go to `faults`.

        orjson alone may not refuse a message: pyarrow.json accepts NaN and deeper nesting.
        """
        likely = []
        for at, message in enumerate(messages):
            reason = self._fault(message)
            if reason is None:
                likely.append(at)
            else:
                faults[at] = reason
        return likely

    def _fault(self, message: bytes) -> str | None:
        try:
            document = orjson.loads(message)
        except orjson.JSONDecodeError as problem:
            return None if self._parse([self._rewritten(message)]) is not None else f"not one JSON object: {problem}"
        if not isinstance(document, dict):
            return f"the record is {clipped(document)}, not an object"
        return fault_of_kind(document, self._document, "")

    def _isolate(
        self, messages: Mapping[int, bytes], likely: Sequence[int], faults: dict[int, str]
    ) -> Sequence[pa.Table]:
        """Tables of `likely` messages in order, halving what does not parse; what fails alone goes to `faults`."""
        table = self._parse([messages[at] for at in likely])
        if table is not None:
            return [table]
        if len(likely) == 1:
            faults[likely[0]] = self._said_of(messages[likely[0]])
            return []
        half = len(likely) // 2
        return [
            *self._isolate(messages, likely[:half], faults),
            *self._isolate(messages, likely[half:], faults),
        ]

    def _rewritten(self, message: bytes) -> bytes:
        """The wanted fields of a message as Python's json reads them; the message itself where it cannot.

        It takes the last of a field that is given twice, and passes over numbers beyond all floats where they are not
        wanted; pyarrow.json refuses both.
        """
        try:
            document = json.loads(message.decode(), parse_float=_exact)
        except (ValueError, RecursionError):
            return message
        if not isinstance(document, dict):
            return message
        return json.dumps(_wanted(document, self._document), default=float).encode()

    def _said_of(self, message: bytes) -> str:
        """Why the parser refuses a message whose fields are of the right kinds."""
        try:
            pj.read_json(pa.BufferReader(message), parse_options=self._parse_options)  # type: ignore[arg-type]
        except pa.ArrowInvalid as problem:
            if "decimal" in str(problem):
                return str(problem)
        return "the record is not strict JSON"

    def _settled(self, read: pa.Table, latest_us: int | None) -> tuple[pa.Table, dict[int, str]]:
        """The columns of the schema, and the rows that break a rule of theirs."""
        columns: list[Any] = []
        broken: dict[int, str] = {}
        for field, wire in zip(self._schema, read.columns, strict=True):
            values: Any = wire.combine_chunks()
            settled, mask = settle(values, field)
            columns.append(settled)
            note(broken, mask, partial(fault_of_value, values, field))
            if field.name == self._event_time:
                note_event_times(broken, field.name, settled, latest_us)
        table = pa.Table.from_arrays(columns, schema=self._schema)
        return table, broken


def fault_of_value(values: Any, field: pa.Field[Any], row: int) -> str:
    """Why the value of `field` in `row` cannot be used."""
    value = values[row].as_py()
    if value is None:
        return f"{field.name} is null or missing, but declared not null"
    if pa.types.is_nested(field.type):
        return f"{field.name} holds a forbidden null, or a time that is none: {clipped(value)}"
    return f"{field.name} is {clipped(value)}, not {field.type}"


def _exact(number: str) -> Decimal | float:
    try:
        return Decimal(number)
    except ArithmeticError:  # an exponent beyond all bounds
        return float(number)


def _wanted(value: Any, kind: Any) -> Any:
    """`value` with the fields of `kind` only; numbers for decimals keep their digits as text."""
    match value:
        case dict() if pa.types.is_struct(kind):
            return {child.name: _wanted(value[child.name], child.type) for child in kind if child.name in value}
        case list() if pa.types.is_list(kind):
            return [_wanted(item, kind.value_type) for item in value]
        case Decimal():
            return str(value) if pa.types.is_decimal(kind) else float(value)
        case _:
            return value


def _are_framed(messages: Sequence[bytes]) -> bool:
    """Whether each message starts with "{" and ends with "}"."""
    try:
        return all([m[0] == OPENING and m[-1] == CLOSING for m in messages])  # noqa: C419 (a list is faster)
    except IndexError:
        return False


def _is_utf8(block: bytes) -> bool:
    if block.isascii():
        return True
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True
