"""A folder of Parquet files as plans name it: a frozen value that can be compared, shipped and opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from microstream.checkpoint.open import open_store
from microstream.connectors.files.layout import check_columns
from microstream.connectors.files.sink_probe import ParquetProbe
from microstream.connectors.files.writer import ParquetWriter
from microstream.errors import PlanError
from microstream.plan.specs import OutputMode, Publication

__all__ = ["ParquetSink"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetSink:
    """Parquet files below `url`, which become visible batch by batch.

    Parameters
    ----------
    url
        A folder or a prefix of a bucket, as `open_store` normalises it.
    partition_cols
        Columns that name the folders of the files.
    every_us
        Batch time from the first row of a file to the moment it is written; 0: files of each batch by itself.
    storage_options
        Of fsspec, for `url`; shown nowhere, because they may hold credentials.
    """

    url: str
    partition_cols: tuple[str, ...] = ()
    every_us: int = 0
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def kind(self) -> str:
        """ "parquet"."""
        return "parquet"

    @property
    def target(self) -> str:
        """The folder."""
        return self.url

    @property
    def format(self) -> str:
        """What the outbox holds, and how files lie: neither may change while rows wait in it."""
        by = f" by {', '.join(self.partition_cols)}" if self.partition_cols else ""
        return ("rolled files" if self.every_us else "files") + by

    @property
    def durable(self) -> bool:
        """True: files outlive the process."""
        return True

    @property
    def guarantee(self) -> str:
        """As `explain()` prints it."""
        return "exactly once"

    @property
    def publication(self) -> Publication:
        """One log entry per batch, or per roll."""
        return Publication(together=True, every_us=self.every_us, lasting=True)

    def check(self, schema: pa.Schema) -> None:
        """Raise PlanError where rows of `schema` cannot be written."""
        check_columns(schema, self.partition_cols)

    def check_mode(self, mode: OutputMode) -> None:
        """Files are never changed."""
        if mode != "append":
            raise PlanError(
                f"to_parquet: these are rows of output mode {mode!r}, but rows in files are never replaced, so only "
                "final ones can go there. Aggregate over windows and leave output_mode= out; or send rows that change "
                "to a topic, by to_kafka(topic, key=...), or to a table of your own, by for_each_batch(fn)."
            )

    def open_probe(self) -> ParquetProbe:
        """The driver's view."""
        return ParquetProbe(open_store(self.url, self.storage_options), self.partition_cols)

    def open_writer(self, *, job: str, sink: str, lane: int, schema: pa.Schema) -> ParquetWriter:
        """A worker's view, for one lane."""
        return ParquetWriter(
            open_store(self.url, self.storage_options),
            job=job,
            sink=sink,
            schema=schema,
            partition_cols=self.partition_cols,
            rolled=self.every_us > 0,
        )
