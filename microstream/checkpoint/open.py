"""From a checkpoint URL to its store."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

from microstream.checkpoint.local import LocalStore
from microstream.checkpoint.objects import FsspecStore
from microstream.checkpoint.store import ObjectStore
from microstream.errors import PlanError

__all__ = ["Location", "location_text", "open_store"]

Location: TypeAlias = str | os.PathLike[str]
"""A folder, or a URL."""

PROTOCOLS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "abfs": "abfs", "abfss": "abfs", "az": "abfs"}
"""Spelling -> the one that is stored: a checkpoint at another URL than its manifest says is a copy."""

CLIENTS = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs"}


def location_text(location: Location, argument: str = "checkpoint") -> str:
    """A folder or URL as text; PlanError if it is neither text nor a path."""
    if not isinstance(location, str | os.PathLike):
        raise PlanError(f"{argument}={location!r} is no folder or URL. Write a path, as in '/data/totals'.")
    return os.fspath(location)


def open_store(
    url: Location, storage_options: Mapping[str, Any] | None = None, *, argument: str = "checkpoint"
) -> ObjectStore:
    """The store at `url`: a folder ("/data/totals", "file:///data/totals"), or a prefix in S3, GCS or Azure.

    Nothing is read or written yet; `probe()` does.

    Parameters
    ----------
    url
        Where the checkpoint is. `url` of the store is the same place in one spelling.
    storage_options
        What fsspec takes for object stores: endpoints, credentials. None for folders.
    argument
        What the URL is called in messages.

    Raises
    ------
    PlanError
        The URL is of no store that can create an object only if it is absent, or its client is not installed.

    >>> open_store("s3a://bucket/totals/").url
    's3://bucket/totals'
    >>> open_store("hdfs://node/totals")
    Traceback (most recent call last):
        ...
    microstream.errors.PlanError: checkpoint='hdfs://node/totals': it can be in a folder
    (/data/totals), s3://, gs:// or abfs://, where "create if absent" is known to hold. Choose one of them.
    """
    url = location_text(url, argument)
    protocol, separator, rest = url.partition("://")
    if not separator:
        return _folder(url, url, storage_options, argument)
    if protocol == "file":
        return _folder(url, _local_path(url, argument), storage_options, argument)
    if protocol == "memory":
        raise PlanError(
            f"{argument}={url!r}: workers in other processes cannot reach it, and it is gone after a crash. "
            "Give a folder "
            "or a bucket; for a test, pass checkpoint=None with sinks that keep nothing.",
            checkpoint=url,
        )
    if protocol not in PROTOCOLS:
        raise PlanError(
            f"{argument}={url!r}: it can be in a folder (/data/totals), s3://, gs:// or abfs://, "
            "where "
            '"create if absent" is known to hold. Choose one of them.',
            checkpoint=url,
        )
    return _bucket(url, PROTOCOLS[protocol], rest.rstrip("/"), storage_options, argument)


def _folder(url: str, path: str, storage_options: Mapping[str, Any] | None, argument: str) -> ObjectStore:
    if not path:
        raise PlanError(f"{argument}={url!r} names no folder. Write a path, as in '/data/totals'.", checkpoint=url)
    if storage_options:
        raise PlanError(
            f"{argument}={url!r} is a folder, for which there are no storage_options. Leave them out, or "
            "give a URL such "
            "as s3://bucket/totals.",
            checkpoint=url,
        )
    return LocalStore(path)


def _local_path(url: str, argument: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise PlanError(
            f"{argument}={url!r} names a host {parts.netloc!r}. A path has three slashes: "
            f"file:///{parts.netloc}{parts.path}.",
            checkpoint=url,
        )
    return unquote(parts.path)


def _bucket(
    url: str, protocol: str, place: str, storage_options: Mapping[str, Any] | None, argument: str
) -> ObjectStore:
    if not place:
        raise PlanError(f"{argument}={url!r} names no bucket. Write {protocol}://bucket/prefix.", checkpoint=url)
    client = CLIENTS[protocol]
    if importlib.util.find_spec(client) is None:
        raise PlanError(f"{argument}={url!r} needs {client}: pip install {client}.", checkpoint=url)
    return FsspecStore(f"{protocol}://{place}", storage_options)
