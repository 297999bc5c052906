"""A checkpoint in a folder: create-if-absent that holds on POSIX file systems, local or NFS.

A file is written under a temporary name, made durable, then *linked* to its own name: `link` is the one call
that is atomic, exclusive and never shows a part. The same through `open("xb")` shows half a file to readers,
and through fsspec has two winners.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from microstream.checkpoint.probing import check_store
from microstream.checkpoint.store import AlreadyExistsError, NotFoundError, StoreError
from microstream.clock import SystemClock
from microstream.errors import InternalError

__all__ = ["LocalStore"]

TEMPORARY = ".tmp"
"""Folder of files being written. What a crash leaves in it is no part of the checkpoint and never listed."""

ABANDONED_S = 86_400.0

REMEDIES = {
    errno.ENOSPC: "The disk is full: free some space, or move the checkpoint to a larger one.",
    errno.EDQUOT: "The disk quota is used up: free some space, or ask for more.",
    errno.EFBIG: "The file is larger than this process may write: raise the limit (ulimit -f).",
    errno.EACCES: "This process may not write there: change the owner or the mode of the folder.",
    errno.EPERM: "The file system forbids this: it must support hard links, and let this user make them.",
    errno.EROFS: "The file system is mounted read-only: mount it writable, or choose another folder.",
    errno.ENOTDIR: "Part of the path is a file, not a folder: choose another path.",
    errno.ENOENT: "The folder is not there, or was removed while it was in use: put it back, or start again.",
    errno.EOPNOTSUPP: "The file system has no hard links: choose a local disk, NFS or an object store.",
    errno.EMFILE: "This process has too many files open: raise the limit (ulimit -n).",
}


class LocalStore:
    """A folder of this machine, or one that all workers mount.

    Parameters
    ----------
    path
        The folder; made when first written to. `url` is its absolute path with symbolic links resolved, so
        that a checkpoint is recognised by whichever way leads to it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._root = Path(os.path.realpath(Path(path).expanduser()))
        self._folders: set[Path] = set()

    def __repr__(self) -> str:
        return f"LocalStore({self.url!r})"

    @property
    def url(self) -> str:
        """The absolute path."""
        return str(self._root)

    def create(self, key: str, data: bytes) -> None:
        """Write `key` unless it is there: one winner, durable on return, readers never see a part."""
        path = self._path(key)
        with self._failing(path), self._written(path, data) as temporary:
            try:
                os.link(temporary, path)
            except FileExistsError:
                raise AlreadyExistsError(f"{path} exists") from None
            _sync_folder(path.parent)

    def put(self, key: str, data: bytes) -> None:
        """Write a key that nobody else uses."""
        path = self._path(key)
        with self._failing(path), self._written(path, data) as temporary:
            os.replace(temporary, path)
            _sync_folder(path.parent)

    def get(self, key: str) -> bytes:
        """All bytes of `key`."""
        path = self._path(key)
        with self._reading(path):
            return path.read_bytes()

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Pieces of `key`; fewer bytes where the file ends."""
        path = self._path(key)
        pieces = []
        with self._reading(path), path.open("rb") as file:
            for offset, length in ranges:
                file.seek(offset)
                pieces.append(file.read(length))
        return pieces

    def list(self, prefix: str) -> list[str]:
        """Keys that start with `prefix`, sorted. Names that start with a dot are no keys."""
        folder = self._root / prefix.rpartition("/")[0]
        with self._failing(folder):
            return sorted(key for key in self._keys(folder) if key.startswith(prefix))

    def delete(self, keys: Sequence[str]) -> None:
        """Remove `keys`; a crash may come between any two of them."""
        folders = set()
        for key in keys:
            path = self._path(key)
            with self._failing(path), suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()
                folders.add(path.parent)
        for folder in folders:
            with self._failing(folder):
                _sync_folder(folder)

    def probe(self) -> None:
        """Raise CheckpointError unless files can be made, linked, listed and removed here."""
        self._sweep()
        check_store(
            self,
            f"probe/{uuid.uuid4().hex}",
            advice="Choose a folder that this user may write, on a file system with hard links.",
        )

    def _sweep(self) -> None:
        """Remove what writers that died left half-written; one that lives takes seconds, not a day."""
        oldest = SystemClock().now_us() / 1e6 - ABANDONED_S
        for leftover in (self._root / TEMPORARY).glob("*"):
            with suppress(OSError):
                if leftover.stat().st_mtime < oldest:
                    leftover.unlink()

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if any(not part or part.startswith(".") or "\0" in part for part in parts):
            raise InternalError(f"{key!r} is no key of a checkpoint", key=key)
        return self._root.joinpath(*parts)

    def _keys(self, folder: Path) -> Iterator[str]:
        for at, folders, files in os.walk(folder, onerror=_unless_absent):
            folders[:] = [name for name in folders if not name.startswith(".")]
            under = Path(at).relative_to(self._root)
            yield from ((under / name).as_posix() for name in files if not name.startswith("."))

    @contextmanager
    def _written(self, path: Path, data: bytes) -> Iterator[Path]:
        """A durable temporary file with `data`, gone afterwards; the folder of `path` is there."""
        for folder in (self._root / TEMPORARY, path.parent):
            self._make(folder)
        temporary = self._root / TEMPORARY / uuid.uuid4().hex
        try:
            with temporary.open("xb", buffering=0) as file:
                rest = memoryview(data)
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _make(self, folder: Path) -> None:
        """Make `folder` durable, once: one that vanishes later is an error, not an empty checkpoint."""
        if folder in self._folders:
            return
        chain = (folder, *folder.parents)
        missing = {one for one in chain if not one.exists()}
        folder.mkdir(parents=True, exist_ok=True)
        # Below the root, another process may have made a folder a moment ago without having synced it yet.
        below = {one for one in chain if self._root in one.parents}
        for one in sorted(missing | below):
            _sync_folder(one.parent)
        self._folders.add(folder)

    @contextmanager
    def _reading(self, path: Path) -> Iterator[None]:
        with self._failing(path):
            try:
                yield
            except (FileNotFoundError, NotADirectoryError):
                raise NotFoundError(f"{path} is not there") from None

    @contextmanager
    def _failing(self, path: Path) -> Iterator[None]:
        """What the operating system says, as a StoreError that says what to do."""
        try:
            yield
        except StoreError:
            raise
        except OSError as problem:
            remedy = REMEDIES.get(problem.errno or 0, "See the operating system's log.")
            raise StoreError(f"{path}: {problem.strerror or problem}. {remedy}") from problem


def _sync_folder(folder: Path) -> None:
    """Make names in `folder` durable: without it, a power failure may take back a link that was reported."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unless_absent(problem: OSError) -> None:
    if not isinstance(problem, FileNotFoundError | NotADirectoryError):
        raise problem
