"""A checkpoint in S3, Google Cloud Storage or Azure, through s3fs, gcsfs or adlfs.

Of the many ways that fsspec offers to create an object, only `pipe_file(mode="create")` is a conditional PUT;
`open("xb")` overwrites silently when the content is empty. Listings caches say "absent" for objects that
exist.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import fsspec
from fsspec.asyn import sync

from microstream.checkpoint.probing import check_store
from microstream.checkpoint.ranges import cut, merged
from microstream.checkpoint.store import AlreadyExistsError, NotFoundError, StoreError

__all__ = ["FsspecStore"]

MAX_GAP_BYTES = 65_536
"""Ranges closer than this are read with one request: a round trip costs more than the bytes between."""

DELETES_AT_ONCE = 32

READ_WHOLE: Mapping[str, Mapping[str, Any]] = {"s3": {"max_concurrency": 1}}
"""With more, s3fs asks for the size first: one round trip more per object."""

EXISTS = frozenset({409, 412})
ABSENT_CODES = frozenset({"NoSuchBucket", "ContainerNotFound", "BucketNotFound"})
"""A 404 that says nothing of the object: the place itself is gone, or not there yet."""

ADVICE = (
    "The credentials must be allowed to list the bucket (s3:ListBucket: without it absent objects look "
    "forbidden) and to "
    "read, write and delete objects below the prefix; the store must honour If-None-Match: *."
)


class FsspecStore:
    """A prefix of a bucket.

    Parameters
    ----------
    url
        "s3://bucket/prefix", normalised (see `open_store`).
    storage_options
        As fsspec takes them: endpoints, credentials.
    """

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        self._url = url
        protocol = url.partition("://")[0]
        self._whole = READ_WHOLE.get(protocol, {})
        self._files: Any = fsspec.filesystem(
            protocol, **{**(storage_options or {}), "use_listings_cache": False, "skip_instance_cache": True}
        )
        self._root: str = self._files._strip_protocol(url).rstrip("/")

    def __repr__(self) -> str:
        return f"FsspecStore({self._url!r})"

    @property
    def url(self) -> str:
        """The URL it was opened with."""
        return self._url

    def create(self, key: str, data: bytes) -> None:
        """A conditional PUT. After a lost reply it reports its own object as existing."""
        with self._failing(key):
            self._files.pipe_file(self._path(key), data, mode="create")

    def put(self, key: str, data: bytes) -> None:
        """A plain PUT."""
        with self._failing(key):
            self._files.pipe_file(self._path(key), data)

    def get(self, key: str) -> bytes:
        """One GET."""
        with self._failing(key):
            return bytes(self._files.cat_file(self._path(key), **self._whole))

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """One GET for ranges that lie close together; fewer bytes where the object ends."""
        spans = merged(ranges, MAX_GAP_BYTES)
        pieces = [self._span(key, start, end) for start, end in spans]
        return cut(ranges, spans, pieces)

    def list(self, prefix: str) -> list[str]:
        """LIST, without any cache."""
        start = f"{self._root}/"
        with self._failing(prefix):
            paths = self._files.find(self._root, prefix=prefix)
        keys = (path.removeprefix(start) for path in paths if path.startswith(start) and not path.endswith("/"))
        return sorted(key for key in keys if key.startswith(prefix))

    def delete(self, keys: Sequence[str]) -> None:
        """DELETE one by one: s3fs drops what a bulk DELETE says of single keys."""
        if keys:
            with self._failing(keys[0]):
                sync(self._files.loop, self._delete_all, [self._path(key) for key in keys])

    def probe(self) -> None:
        """Raise CheckpointError unless conditional PUT, GET, LIST, DELETE and 404 work as commits need them."""
        check_store(self, f"probe/{uuid.uuid4().hex}", advice=ADVICE)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _span(self, key: str, start: int, end: int) -> bytes:
        try:
            with self._failing(key):
                return bytes(self._files.cat_file(self._path(key), start=start, end=end))
        except StoreError as problem:
            if problem.__cause__ is not None and _status(problem.__cause__) == 416:
                return b""  # The object ends before `start`.
            raise

    async def _delete_all(self, paths: Sequence[str]) -> None:
        slots = asyncio.Semaphore(DELETES_AT_ONCE)

        async def delete(path: str) -> None:
            async with slots:
                try:
                    await self._files._rm_file(path)
                except FileNotFoundError:
                    return

        await asyncio.gather(*(delete(path) for path in paths))

    @contextmanager
    def _failing(self, key: str) -> Iterator[None]:
        """What a client raises, in the three words of the contract; clients have errors of their own."""
        where = f"{self._url}/{key}"
        try:
            yield
        except FileNotFoundError as problem:
            if _codes(problem) & ABSENT_CODES:
                raise StoreError(f"{where}: the bucket is not there ({problem}). Create it first.") from problem
            raise NotFoundError(f"{where} is not there") from problem
        except FileExistsError as problem:
            raise AlreadyExistsError(f"{where} exists") from problem
        except Exception as problem:
            if _status(problem) in EXISTS:
                raise AlreadyExistsError(f"{where} exists ({problem})") from problem
            if _status(problem) == 404 and not _codes(problem) & ABSENT_CODES:
                raise NotFoundError(f"{where} is not there") from problem
            raise StoreError(f"{where}: {type(problem).__name__}: {problem}") from problem


def _status(problem: BaseException) -> int | None:
    """The HTTP status behind an error of s3fs (botocore), gcsfs or adlfs; None where there was no answer."""
    for error in _chain(problem):
        response = getattr(error, "response", None)
        if isinstance(response, Mapping):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            status = getattr(error, "status_code", None) or getattr(error, "code", None)
        if isinstance(status, int):
            return status
    return None


def _codes(problem: BaseException) -> set[str]:
    """Names of the error that the service gave, such as "NoSuchKey"."""
    found = set()
    for error in _chain(problem):
        response = getattr(error, "response", None)
        if isinstance(response, Mapping):
            found.add(str(response.get("Error", {}).get("Code", "")))
        found.add(str(getattr(error, "error_code", "")))
    return found


def _chain(problem: BaseException) -> Iterator[BaseException]:
    error: BaseException | None = problem
    while error is not None:
        yield error
        error = error.__cause__
