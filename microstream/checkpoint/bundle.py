"""Bundles: the one object that a worker writes per batch, with all its segments, and the way back to tables.

A segment is an Arrow IPC stream under lz4. A flipped bit or a zeroed page reads as *valid* Arrow, so size and
crc32 stand in the manifest and are checked at every read.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import pyarrow as pa

from microstream.checkpoint.manifest import Segment
from microstream.checkpoint.store import NotFoundError, ObjectStore
from microstream.errors import CheckpointError

__all__ = ["Bundle", "read_segments"]

OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
"""Threads are Dask's."""

READ_OPTIONS = pa.ipc.IpcReadOptions(use_threads=False)

DAMAGED = "The object is damaged or missing: restore it from a backup of the bucket or folder."


class Bundle:
    """Collects tables, then gives the bytes of one object and where in it each table is.

    >>> bundle = Bundle()
    >>> bundle.add(pa.table({"x": [1, 2]})), bundle.add(pa.table({"y": ["a"]}))
    (0, 1)
    >>> data, (first, second) = bundle.seal("data/00000001/0000000000000000-d-8c1f.arrow")
    >>> first.offset, first.rows, second.offset == first.length, len(data) == first.length + second.length
    (0, 2, True, True)
    """

    def __init__(self) -> None:
        self._parts: list[pa.Buffer] = []
        self._rows: list[int] = []

    def __len__(self) -> int:
        """How many tables were added."""
        return len(self._parts)

    @property
    def nbytes(self) -> int:
        """Bytes of the object so far."""
        return sum(part.size for part in self._parts)

    def add(self, table: pa.Table) -> int:
        """Encode `table` at once; answers its position among the segments."""
        self._parts.append(_encode(table))
        self._rows.append(table.num_rows)
        return len(self._parts) - 1

    def seal(self, object_name: str) -> tuple[bytes, tuple[Segment, ...]]:
        """The object's bytes, and the segments in the order they were added."""
        segments = []
        offset = 0
        for part, rows in zip(self._parts, self._rows, strict=True):
            crc32 = zlib.crc32(part)
            segments.append(Segment(object=object_name, offset=offset, length=part.size, crc32=crc32, rows=rows))
            offset += part.size
        return b"".join(self._parts), tuple(segments)


def read_segments(store: ObjectStore, segments: Sequence[Segment]) -> list[pa.Table]:
    """The tables of `segments`, in their order; one request per object.

    Raises
    ------
    CheckpointError
        Objects are missing, or segments are not what the manifest says; names all of them.
    StoreError
        The store does not answer.
    """
    by_object: dict[str, dict[Segment, None]] = {}
    for segment in segments:
        by_object.setdefault(segment.object, {})[segment] = None
    tables: dict[Segment, pa.Table] = {}
    problems: list[str] = []
    for name, wanted in by_object.items():
        try:
            pieces = store.get_ranges(name, [(segment.offset, segment.length) for segment in wanted])
        except NotFoundError:
            problems.append(f"{name} is not there")
            continue
        for segment, piece in zip(wanted, pieces, strict=True):
            try:
                tables[segment] = _decode(segment, piece)
            except ValueError as problem:
                problems.append(f"{name} at {segment.offset}: {problem}")
    if problems:
        raise CheckpointError.of(f"Checkpoint {store.url}", problems, DAMAGED)
    return [tables[segment] for segment in segments]


def _encode(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=OPTIONS) as writer:
        # One batch without empty ones: Arrow writes the whole text buffer of `slice(i, 0)`.
        if table.num_rows:
            writer.write_table(table.combine_chunks())
    return sink.getvalue()


def _decode(segment: Segment, piece: bytes) -> pa.Table:
    """Raises ValueError (of which ArrowInvalid is one) with what is wrong."""
    if len(piece) != segment.length:
        raise ValueError(f"{len(piece)} of {segment.length} bytes are there")
    crc32 = zlib.crc32(piece)
    if crc32 != segment.crc32:
        raise ValueError(f"its crc32 is {crc32:08x}, not {segment.crc32:08x}")
    with pa.ipc.open_stream(piece, options=READ_OPTIONS) as reader:
        table = reader.read_all()
    if table.num_rows != segment.rows:
        raise ValueError(f"it holds {table.num_rows} rows, not {segment.rows}")
    return table
