"""Records that are Arrow IPC streams, each of one or more rows.

A record of one row is about 500 bytes and takes 10 us either way; records of hundreds of rows go at memory's speed.
Nothing in a record is trusted: an offset that points outside its buffer would be read all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pyarrow as pa

from microstream.errors import PlanError
from microstream.formats.fitting import check_fit, fitted
from microstream.formats.protocol import Decoded, Encoded

__all__ = ["ArrowDecoder", "ArrowEncoder"]

END = b"\xff\xff\xff\xff\0\0\0\0"
"""How a stream ends."""
FRAME_BYTES = 8
"""A continuation marker and the length of what follows, before each message of a stream."""

MOST_ROWS = 1_000
MOST_BYTES = 64 << 10
"""A record is cut in two above this, so that it stays far below what topics accept."""


@dataclass(frozen=True, slots=True)
class ArrowDecoder:
    """Reads streams that have the columns of `schema` by name and in types that fit; a missing column is null.

    A record is bad as a whole: if it is no stream of exactly its length, or one of its rows is null where `schema`
    forbids it, does not fit, or has an impossible event time.
    """

    schema: pa.Schema
    event_time: str | None = None

    def decode(self, messages: Sequence[bytes], *, latest_us: int | None = None) -> Decoded:
        """Rows of all good streams; `record` says whose each is."""
        faults: dict[int, str] = {}
        read = list(self._read(messages, faults))
        tables, owners = [self.schema.empty_table()], [np.array([], np.int64)]
        for _, group in groupby(read, key=lambda each: id(each[2])):
            together = list(group)
            owner = np.repeat([at for at, _, _ in together], [batch.num_rows for _, batch, _ in together])
            table = pa.Table.from_batches([batch for _, batch, _ in together]).combine_chunks()
            try:
                check_fit("the record", table.schema, self.schema)
            except PlanError as problem:
                faults |= {at: str(problem) for at, _, _ in together}
                continue
            rows, broken = fitted(table, self.schema, self.event_time, latest_us)
            for row, reason in sorted(broken.items(), reverse=True):
                faults[int(owner[row])] = reason
            tables.append(rows)
            owners.append(owner)
        record = np.concatenate(owners)
        kept = ~np.isin(record, list(faults))
        if self.schema.names:
            whole = pa.concat_tables(tables).filter(pa.array(kept))
        else:
            whole = pa.table({"row": pa.nulls(int(kept.sum()))}).select([])
        return Decoded(table=whole, bad=tuple(sorted(faults.items())), record=record[kept])

    def _read(
        self, messages: Sequence[bytes], faults: dict[int, str]
    ) -> Iterator[tuple[int, pa.RecordBatch, pa.Schema]]:
        """(index of the message, batch, schema): neighbours that begin alike have one schema object."""
        prefix, schema = b"", pa.schema([])
        for at, message in enumerate(messages):
            try:
                if prefix and message.startswith(prefix):
                    one = _only_batch(message, len(prefix), schema)
                    if one is not None:
                        yield at, one, schema
                        continue
                batches, prefix, schema = _stream(message, prefix, schema)
            except (pa.ArrowException, OSError, EOFError, ValueError) as problem:
                faults[at] = f"not an Arrow stream: {problem}"
                continue
            yield from ((at, batch, schema) for batch in batches)


@dataclass(frozen=True, slots=True)
class ArrowEncoder:
    """Writes rows as streams: one per row, or as many rows `together` as 64 KiB hold, 1,000 at most."""

    schema: pa.Schema
    together: bool

    def encode(self, table: pa.Table) -> Encoded:
        """All rows, in order."""
        head = self.schema.serialize().to_pybytes()
        values, ends, end = [], [], 0
        for batch in table.combine_chunks().to_batches(max_chunksize=MOST_ROWS if self.together else None):
            for rows, body in _pieces(batch, MOST_BYTES) if self.together else _single_rows(batch):
                end += rows
                values.append(head + body + END)
                ends.append(end)
        return Encoded(
            values=pa.array(values, pa.large_binary()), ends=np.array(ends, np.int64) if self.together else None
        )


def _pieces(batch: pa.RecordBatch, most_bytes: int) -> Iterator[tuple[int, bytes]]:
    """(rows, message) of `batch`, halved until a message is small or a single row."""
    body = batch.serialize()
    if body.size <= most_bytes or batch.num_rows == 1:
        yield batch.num_rows, body.to_pybytes()
        return
    half = batch.num_rows // 2
    yield from _pieces(batch.slice(0, half), most_bytes)
    yield from _pieces(batch.slice(half), most_bytes)


def _single_rows(batch: pa.RecordBatch) -> Iterator[tuple[int, bytes]]:
    for row in range(batch.num_rows):
        yield 1, batch.slice(row, 1).serialize().to_pybytes()


def _only_batch(message: bytes, start: int, schema: pa.Schema) -> pa.RecordBatch | None:
    """The batch of a message that holds exactly one after its schema; None if that is not so."""
    body = message[start:]
    if len(body) < len(END) + FRAME_BYTES or not body.endswith(END) or body.startswith(END):
        return None
    read = pa.ipc.read_message(body)
    size = FRAME_BYTES + read.metadata.size + (0 if read.body is None else read.body.size) + len(END)
    if size != len(body) or read.type != "record batch":
        return None
    batch = pa.ipc.read_record_batch(read, schema)
    batch.validate(full=True)
    return batch


def _stream(message: bytes, prefix: bytes, schema: pa.Schema) -> tuple[list[pa.RecordBatch], bytes, pa.Schema]:
    """All batches of a message, its first bytes, up to and with the schema, and the schema."""
    source = pa.BufferReader(message)
    reader = pa.ipc.open_stream(source)
    own = bytes(message[: source.tell()])
    found = schema if own == prefix else reader.schema
    batches = list(reader)
    for batch in batches:
        batch.validate(full=True)
    if source.tell() != len(message):
        raise ValueError(f"{len(message) - source.tell()} bytes follow its end")
    return batches, own, found
