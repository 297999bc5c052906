"""Which files there are: in a folder, by a glob or by name, on whatever fsspec can list."""

from __future__ import annotations

import gzip
import lzma
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import fsspec
from fsspec.core import split_protocol
from fsspec.utils import stringify_path

from microstream.errors import ConnectorError, MicrostreamError, PlanError, UnreachableError

__all__ = ["Found", "absolute", "asking", "filesystem_of", "find", "version_of"]

MAGIC = "*?["
DAMAGED = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error)
OURS = (ValueError, TypeError, LookupError, AttributeError)
"""Errors that no file system is to blame for."""
LOCAL = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file as it was listed. `version` changes whenever its content is replaced (ETag, else time of change)."""

    path: str
    size: int
    version: str
    modified_s: float


def absolute(path: str | os.PathLike[str]) -> str:
    """`path` as every process understands it: a URL, or an absolute path of this machine.

    >>> absolute("s3://bucket/in/*.json"), absolute("file:///data/in")
    ('s3://bucket/in/*.json', '/data/in')
    """
    protocol, rest = split_protocol(stringify_path(path))
    if protocol in (None, LOCAL):
        local: str = os.path.abspath(os.path.expanduser(rest))
        return local
    return f"{protocol}://{rest}"


def filesystem_of(paths: Sequence[str], storage_options: Mapping[str, Any]) -> Any:
    """The file system of all `paths`. Its listings are never cached: a new file must be seen.

    Raises
    ------
    PlanError
        The paths are on several, or none is known for them.
    """
    protocols = {split_protocol(path)[0] or LOCAL for path in paths}
    if len(protocols) > 1:
        raise PlanError(f"read_files: {' and '.join(sorted(protocols))} paths in one source. Use ms.concat of two.")
    [protocol] = protocols
    try:
        # One client for all readers of a process: connecting to a bucket takes longer than reading a small file.
        return fsspec.filesystem(protocol, **{**storage_options, "use_listings_cache": False})
    except (ImportError, ValueError) as problem:
        raise PlanError(f"read_files: {paths[0]}: {problem}") from problem


def is_glob(path: str) -> bool:
    """Whether `path` names what matches, which may be nothing for a while."""
    return any(sign in path for sign in MAGIC)


def find(files: Any, path: str, *, required: bool) -> list[Found]:
    """Files at `path`: one file, all files below a folder, or what a glob matches; names with `_` or `.` are hidden.

    A hidden file is one that is still being written, or says something about the others. Empty ones are left out, too:
    they hold no rows, and whoever made one is about to write it.

    Parameters
    ----------
    required
        Whether it is an error that nothing is there.

    Raises
    ------
    ConnectorError
        Nothing is there, or it may not be read.
    UnreachableError
        The file system does not answer.
    """
    with asking(path):
        root = str(files._strip_protocol(path)).rstrip("/") or "/"
        if any(sign in root for sign in MAGIC):
            fixed = root[: min(root.find(sign) for sign in MAGIC if sign in root)].rpartition("/")[0]
            listed = _matched(files, root)
        else:
            fixed, listed = root, _below(files, root)
    if not listed and required:
        raise ConnectorError(f"read_files: there is no file at {path}. Correct the path, or make the folder first.")
    seen = [_found(name, info) for name, info in listed.items() if not _is_hidden(name, fixed)]
    return [found for found in seen if found.size]


def version_of(info: Mapping[str, Any]) -> str:
    """What tells one content of a file from the next."""
    for name in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created"):
        if info.get(name) is not None:
            return str(info[name]).strip('"')
    return ""


@contextmanager
def asking(path: str) -> Iterator[None]:
    """What file systems raise, in the words of connectors; that a file is not there is left to the caller.

    Their clients have errors of their own for a service that does not answer, which have no common class.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, MicrostreamError, *OURS):
        raise
    except PermissionError as problem:
        raise ConnectorError(
            f"{path} may not be read ({problem}). Give this user the right to, or other keys."
        ) from problem
    except DAMAGED as problem:
        raise ConnectorError(
            f"{path} is damaged: {type(problem).__name__}: {problem}. Remove it, or put a whole one in its place."
        ) from problem
    except Exception as problem:
        raise UnreachableError(f"{path} cannot be read now: {type(problem).__name__}: {problem}") from problem


def _matched(files: Any, pattern: str) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for name, info in files.glob(pattern, detail=True).items():
        found |= _below(files, name) if info["type"] == "directory" else {name: info}
    return found


def _below(files: Any, root: str) -> dict[str, Mapping[str, Any]]:
    """All files below `root`, or itself; an empty folder is a key of its own, so that it is not taken for missing."""
    try:
        below: dict[str, Mapping[str, Any]] = files.find(root, detail=True)
    except FileNotFoundError:
        return {}
    if not below and files.isdir(root):
        return {f"{root}/.": {"type": "directory", "size": 0}}
    return below


def _found(name: str, info: Mapping[str, Any]) -> Found:
    times = ("mtime", "LastModified", "last_modified", "created")
    when = next((info[key] for key in times if info.get(key) is not None), 0.0)
    modified_s = when.timestamp() if isinstance(when, datetime) else float(when)
    is_file = info.get("type") == "file" and not name.endswith("/")
    size = int(info.get("size") or 0) if is_file else 0
    return Found(path=name, size=size, version=version_of(info), modified_s=modified_s)


def _is_hidden(name: str, fixed: str) -> bool:
    """Whether a part of `name` below `fixed` is hidden; a file that was named outright is not.

    >>> _is_hidden("/in/_tmp/a", "/in"), _is_hidden("/in/a/.b", "/in"), _is_hidden("/_in/a", "/_in")
    (True, True, False)
    """
    inner = name[len(fixed) :].strip("/")
    return any(part.startswith(("_", ".")) for part in inner.split("/"))
