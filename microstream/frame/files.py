"""Frames that come from files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from microstream.clock import duration_us
from microstream.connectors.files.decode import Format, check_schema
from microstream.connectors.files.listing import absolute
from microstream.connectors.files.sample import infer_files
from microstream.connectors.files.source import FileSource
from microstream.errors import PlanError
from microstream.frame.inference import SAMPLE, show
from microstream.frame.sources import all_columns, delay_of, with_event_time
from microstream.frame.stream import StreamFrame
from microstream.plan.dtypes import Schema, parse_schema
from microstream.plan.nodes import Source

__all__ = ["read_files"]

Path = str | os.PathLike[str]

SUFFIXES: Mapping[str, Format] = {
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def read_files(
    path: Path | Sequence[Path],
    *,
    format: Format | None = None,
    schema: Schema | None = None,
    event_time: str | None = None,
    watermark: str | None = None,
    watch: bool = False,
    idle_timeout: str | None = "30s",
    max_ahead: str = "1D",
    on_bad_record: Literal["fail", "drop"] = "fail",
    on_data_loss: Literal["fail", "skip"] = "fail",
    storage_options: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> StreamFrame:
    """Rows of files: those that are there, or with `watch` also those that come later.

    Up to 16 files are read at a time, each in a partition of its own; further ones follow when one is done, in order of
    their time of change, then of their name. A file must be complete when it appears, as by renaming it: names that
    begin with `_` or `.` are not looked at, and neither are empty files. A file is read once; one that is changed
    afterwards is an error.

    Parameters
    ----------
    path
        A file, a folder (with all folders below it), a glob, or a list of these, which is read in the order given; on
        this machine or as a URL such as "s3://bucket/in".
    format
        "json" (an object per line), "csv" (the first line names the columns; no value holds a line break) or "parquet".
        By default what the path ends with. Names that end in .gz, .bz2, .xz or .zst are decompressed (not Parquet).
    schema
        As in `read_kafka`. Columns that are not named are ignored. None: inferred from the first 1,000 lines, or from
        the first Parquet file, and printed; the first start stores it in the checkpoint, and later ones go by that.
    event_time
        Column that says when the event happened; needed for windows. A row where it is null is a bad record.
        "_processing_time": the time at which the row is read, as in `read_kafka`.
    watermark
        How far rows may be out of order within the files that follow each other in a partition, as in "10s".
    watch
        Whether to go on looking for new files; else the source ends, and can be computed.
    idle_timeout
        A partition without new files for so long does not hold back the watermark. None: it does.
    max_ahead
        A row whose event time is further than this after the clock is a bad record.
    on_bad_record
        "fail" stops the query and shows file and line; "drop" counts it.
    on_data_loss
        "fail" stops the query where a file was removed or changed before it was read; "skip" goes on without it.
    storage_options
        What fsspec takes for the file system: endpoints, keys.
    name
        Of the source in the checkpoint; the path by default.

    Raises
    ------
    PlanError
        A type is not known or not possible in this format, `event_time` is no time column, "_processing_time" is a
        column of the files or has a `watermark`, or the format is not clear.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import microstream as ms
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.json").write_text('{"id": 1, "price": 2.5}\\n{"id": 2, "price": 4}\\n')
    >>> ms.read_files(folder, format="json", schema={"id": "int64", "price": "float64"}).compute()
       id  price
    0   1    2.5
    1   2    4.0
    """
    given = (path,) if isinstance(path, str | os.PathLike) else tuple(path)
    if not given:
        raise PlanError("read_files: name at least one file, folder or glob.")
    paths = tuple(absolute(one) for one in given)
    spec = FileSource(
        paths=paths,
        format=format or _format_of(paths),
        watch=watch,
        on_bad_record=on_bad_record,
        on_data_loss=on_data_loss,
        storage_options=dict(storage_options or {}),
    )
    inferred = None
    if schema is None:
        inferred = with_event_time(infer_files(spec, event_time=event_time, count=SAMPLE), event_time)
        show(inferred, spec.target)
    read = inferred or with_event_time(parse_schema({} if schema is None else schema), event_time)
    check_schema(spec.format, read)
    return StreamFrame(
        Source(
            name=name or ",".join(os.fspath(one) for one in given),
            spec=spec,
            schema=all_columns(read, event_time),
            inferred=inferred,
            event_time=event_time,
            delay_us=delay_of(watermark, event_time),
            idle_timeout_us=None if idle_timeout is None else duration_us(idle_timeout, argument="idle_timeout"),
            max_ahead_us=duration_us(max_ahead, argument="max_ahead"),
        )
    )


def _format_of(paths: Sequence[str]) -> Format:
    """What the names say.

    >>> _format_of(["/in/*.csv.gz"])
    'csv'
    """
    found = set()
    for path in paths:
        stem = path
        while (ending := os.path.splitext(stem))[1] and ending[1] not in SUFFIXES:
            stem = ending[0]
        found.add(SUFFIXES.get(os.path.splitext(stem)[1]))
    [only] = found if len(found) == 1 else {None}
    if only is None:
        raise PlanError(
            f"read_files({', '.join(paths)}): the names do not say which format it is. Give format='json', 'csv' or "
            "'parquet'."
        )
    return only
