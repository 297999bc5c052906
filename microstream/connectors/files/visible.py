"""What a reader sees of a folder that `to_parquet` writes: exactly the files of committed batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import fs

from microstream.checkpoint.open import Location, open_store
from microstream.connectors.files.log import LogEntry, entries_of, owner_of, reaching, text_schema
from microstream.errors import ConnectorError

__all__ = ["open_parquet"]


def open_parquet(path: Location, storage_options: Mapping[str, Any] | None = None) -> ds.Dataset:
    """The rows of all committed batches that `to_parquet(path)` wrote until now, each exactly once.

    Any tool can read the folder by its `*.parquet` files too; but after a failure there may be files of attempts that
    never committed, which only the log in `_microstream/` tells from the others. No cluster is needed, and a query may
    be writing meanwhile: batches that become visible later are not in the result.

    Parameters
    ----------
    path
        As given to `to_parquet`.
    storage_options
        Of fsspec, for `path`.

    Returns
    -------
    pyarrow.dataset.Dataset
        `.to_table(filter=...)` reads it, `.to_table().to_pandas()` gives a frame, and DuckDB and polars take it as it
        is. Columns that older batches did not have are null there.

    Raises
    ------
    ConnectorError
        The folder was not written by `to_parquet`, or no batch with rows is committed yet.

    Examples
    --------
    >>> import pandas as pd, tempfile
    >>> import microstream as ms
    >>> folder = tempfile.mkdtemp()
    >>> sink = ms.from_pandas(pd.DataFrame({"n": [1, 2]})).to_parquet(f"{folder}/table")
    >>> ms.open_parquet(f"{folder}/table")
    Traceback (most recent call last):
        ...
    microstream.errors.ConnectorError: open_parquet('.../table'): there is no _microstream/table.json, so to_parquet
    never wrote here. Files of others are read by pyarrow.dataset.dataset(path).
    """
    store = open_store(path, storage_options, argument="open_parquet(path)")
    where = f"open_parquet({store.url!r})"
    with reaching(where):
        owner = owner_of(store)
        entries = entries_of(store) if owner is not None else []
    if owner is None:
        raise ConnectorError(
            f"{where}: there is no _microstream/table.json, so to_parquet never wrote here. Files of others are read "
            "by pyarrow.dataset.dataset(path)."
        )
    if not entries:
        raise ConnectorError(f"{where}: no batch with rows is committed yet. Ask again later.")
    schema = _schema(entries)
    hive = ds.partitioning(pa.schema([schema.field(name) for name in owner.partition_cols]), flavor="hive")
    system, root = _file_system(store.url, storage_options)
    parquet = ds.ParquetFileFormat()
    # Built one by one, because the log has the sizes: `ds.dataset(paths)` would ask the store for each.
    fragments = [
        parquet.make_fragment(
            f"{root}/{file.path}",
            filesystem=system,
            partition_expression=hive.parse(file.path) if owner.partition_cols else None,
            file_size=file.bytes,
        )
        for entry in entries
        for file in entry.files
    ]
    return ds.FileSystemDataset(fragments, schema, parquet, filesystem=system)


def _schema(entries: list[LogEntry]) -> pa.Schema:
    """Columns of all batches; nullable, where they differ: an older file may lack one."""
    found = [text_schema(text) for text in dict.fromkeys(entry.schema for entry in entries)]
    if len(found) == 1:
        return found[0]
    nullable = [pa.schema([field.with_nullable(True) for field in schema]) for schema in found]
    return pa.unify_schemas(nullable, promote_options="permissive")


def _file_system(url: str, storage_options: Mapping[str, Any] | None) -> tuple[fs.FileSystem, str]:
    protocol, separator, _ = url.partition("://")
    if not separator:
        return fs.LocalFileSystem(), url
    # Another query of this process may have listed the bucket before: what came since would not be there.
    fresh = {"use_listings_cache": False, "skip_instance_cache": True}
    files = fsspec.filesystem(protocol, **{**(storage_options or {}), **fresh})
    handler = fs.FSSpecHandler(files)  # type: ignore[abstract]  # so say the stubs
    return fs.PyFileSystem(handler), str(files._strip_protocol(url)).rstrip("/")
