"""The log of a Parquet folder: which files are visible, one entry per batch, and whose folder it is.

    _microstream/table.json          created once: the job and sink that write here, and the partition columns
    _microstream/{batch:020d}.json   created once per batch with rows: its files

A file is visible when an entry names it. Entries are created only if absent, so that a batch becomes visible once and
as a whole, whoever publishes it and however often.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa

from microstream.checkpoint.records import dump, parse, read
from microstream.checkpoint.store import AlreadyExistsError, NotFoundError, ObjectStore, StoreError
from microstream.errors import ConnectorError, UnreachableError

__all__ = [
    "FOLDER",
    "LogEntry",
    "Owner",
    "VisibleFile",
    "create_entry",
    "entries_of",
    "find_entry",
    "newest_batch",
    "owner_of",
    "reaching",
    "schema_text",
    "text_schema",
]

R = TypeVar("R")

FORMAT = 1
FOLDER = "_microstream/"
"""Arrow, Spark and DuckDB pass over folders that begin with an underscore, or look for *.parquet only."""

OWNER = f"{FOLDER}table.json"
READS_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who writes a folder. No other job and no other sink may."""

    job: str
    sink: str
    partition_cols: tuple[str, ...]
    format: int = FORMAT


@dataclass(frozen=True, slots=True, kw_only=True)
class VisibleFile:
    """One Parquet file; `path` is relative to the folder of the log's folder."""

    path: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEntry:
    """The files of one batch; `schema` is the Arrow schema of its rows, partition columns included, in base64."""

    job: str
    sink: str
    batch: int
    schema: str
    files: tuple[VisibleFile, ...]
    format: int = FORMAT


def owner_of(store: ObjectStore, *, claim: Owner | None = None) -> Owner | None:
    """Who writes the folder; `claim` becomes the owner of one that has none."""
    found = _get(store, OWNER, Owner)
    if found is not None or claim is None:
        return found
    try:
        store.create(OWNER, dump(claim))
    except AlreadyExistsError:
        found = _get(store, OWNER, Owner)
        if found is None:
            raise
        return found
    return claim


def find_entry(store: ObjectStore, batch: int) -> LogEntry | None:
    """The entry of `batch`, None where there is none."""
    return _get(store, _key(batch), LogEntry)


def create_entry(store: ObjectStore, entry: LogEntry) -> LogEntry:
    """Make the files of `entry` visible; what is there afterwards: another's, if it came first."""
    try:
        store.create(_key(entry.batch), dump(entry))
    except AlreadyExistsError:
        # Every client reports its own write as existing after a lost reply.
        found = find_entry(store, entry.batch)
        if found is None:
            raise
        return found
    return entry


def newest_batch(store: ObjectStore) -> int:
    """The newest batch that is visible, -1 where none is."""
    return max(_batches(store), default=-1)


def entries_of(store: ObjectStore) -> list[LogEntry]:
    """All entries, oldest first."""
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        found = pool.map(lambda batch: find_entry(store, batch), sorted(_batches(store)))
        return [entry for entry in found if entry is not None]


@contextmanager
def reaching(where: str) -> Iterator[None]:
    """What a store says, as an error of a sink that may be tried again."""
    try:
        yield
    except StoreError as problem:
        raise UnreachableError(f"{where}: {problem}") from problem


def schema_text(schema: pa.Schema) -> str:
    """`schema` for an entry."""
    message: bytes = schema.remove_metadata().serialize().to_pybytes()
    return base64.b64encode(message).decode()


def text_schema(text: str) -> pa.Schema:
    """The schema that `schema_text` made `text` of."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def _key(batch: int) -> str:
    return f"{FOLDER}{batch:020d}.json"


def _batches(store: ObjectStore) -> Iterator[int]:
    for key in store.list(FOLDER):
        name = key.removeprefix(FOLDER).removesuffix(".json")
        if len(name) == 20 and name.isdecimal():
            yield int(name)


def _get(store: ObjectStore, key: str, kind: type[R]) -> R | None:
    try:
        data = store.get(key)
    except NotFoundError:
        return None
    value, problem = parse(data)
    record, problems = (None, (problem,)) if value is None else read(kind, value)
    if value is not None and value.get("format") != FORMAT:
        record, problems = None, (f"it has format {value.get('format')!r}, this version reads {FORMAT}",)
    if record is None:
        raise ConnectorError(
            f"{store.url}/{key}: {'; '.join(problems)}. It was damaged, or written by a newer version: restore it, or "
            "upgrade microstream."
        )
    return record
