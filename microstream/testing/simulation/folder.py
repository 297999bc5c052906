"""A folder of Parquet files in a model bucket as a sink: the production writer and log on a store with faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from microstream.checkpoint.memory import MemoryStore
from microstream.connectors.files.log import entries_of
from microstream.connectors.files.sink_probe import ParquetProbe
from microstream.connectors.files.writer import ParquetWriter
from microstream.plan.specs import OutputMode, Publication
from microstream.testing.simulation.kernel import World
from microstream.testing.simulation.store import Bucket, SimStore, StoreFaults

__all__ = ["SimFolder", "problems_of_folder", "visible_files"]

URL = "sim://folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimFolder:
    """A sink spec; `every_us` as of `ParquetSink`."""

    world: World = field(repr=False, compare=False)
    bucket: Bucket = field(repr=False, compare=False)
    faults: StoreFaults = field(repr=False, compare=False)
    every_us: int = 0
    kind: str = "sim files"
    target: str = URL
    format: str = ""
    durable: bool = True
    guarantee: str = "exactly once"

    @property
    def publication(self) -> Publication:
        """As that of `ParquetSink`."""
        return Publication(together=True, every_us=self.every_us)

    def check(self, schema: pa.Schema) -> None:
        """Everything can be written."""

    def check_mode(self, mode: OutputMode) -> None:
        """In any mode."""

    def open_probe(self) -> ParquetProbe:
        """The driver's view."""
        return UntriedProbe(self._store(), ())

    def open_writer(self, *, job: str, sink: str, lane: int, schema: pa.Schema) -> ParquetWriter:
        """A worker's view of one lane."""
        return ParquetWriter(
            self._store(),
            job=job,
            sink=sink,
            schema=schema,
            partition_cols=(),
            rolled=self.every_us > 0,
            new_id=self.world.new_id,
        )

    def _store(self) -> SimStore:
        return SimStore(self.world, self.bucket, url=URL, faults=self.faults)


class UntriedProbe(ParquetProbe):
    """Looks at owner and log only: to try a store that lies now and then would end the query for good."""

    def check(self) -> None:
        """The bucket is there."""


def visible_files(bucket: Bucket) -> list[str]:
    """All files that the log names."""
    store = MemoryStore()
    for key, data in bucket.objects.items():
        store.put(key, data)
    return [file.path for entry in entries_of(store) for file in entry.files]


def problems_of_folder(
    bucket: Bucket, published: Sequence[Mapping[str, Any]], *, rolled: bool, refused: bool
) -> list[str]:
    """What is wrong with the folder, if its log should show the rows `published` to a topic by the same query.

    Rolled files have equal names whoever writes them: then a reader of all files sees no row twice either. Of a
    checkpoint that was `refused`, not everything can have come out, but nothing twice.
    """
    rows_at = cache(lambda path: [_plain(row) for row in _rows(bucket.objects[path])])
    found = Counter(row for path in visible_files(bucket) for row in rows_at(path))
    wanted = Counter(_plain(row) for row in published)
    twice = [f"folder: {row} came out twice" for row, times in found.items() if times > max(1, wanted[row])]
    if refused:
        return twice
    problems = [f"folder: {row} is missing" for row in wanted - found]
    problems += [f"folder: {row} should not be there" for row in found - wanted]
    if rolled:
        paths = [key for key in bucket.objects if key.endswith(".parquet")]
        plain = Counter(row for path in paths for row in rows_at(path))
        problems += [f"folder: {row} is in files that should be one" for row in plain - wanted]
    return problems + twice


def _rows(data: bytes) -> list[dict[str, Any]]:
    table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    columns = [c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in table.columns]
    return pa.table(columns, names=table.column_names).to_pylist()


def _plain(row: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(row.items()))
