from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from microstream.checkpoint import local
from microstream.checkpoint.local import LocalStore
from microstream.checkpoint.store import AlreadyExistsError, StoreError
from microstream.errors import CheckpointError, InternalError

FULL_DISK = """
import resource, sys
from microstream.checkpoint.local import LocalStore
from microstream.checkpoint.store import StoreError

store = LocalStore(sys.argv[1])
store.create("manifest/first", b"fits")
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
for write in (store.create, store.put):
    try:
        write("manifest/second", b"x" * 50_000)
    except StoreError as problem:
        print(problem)
"""


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def fails_with(number: int) -> Any:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_write_leaves_one_file_and_nothing_temporary(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)

    store.create("manifest/a", b"1")
    store.put("data/00000001/b", b"2")
    with pytest.raises(AlreadyExistsError):
        store.create("manifest/a", b"3")

    assert files(tmp_path) == ["data/00000001/b", "manifest/a"]


def test_what_a_crash_left_behind_is_not_listed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.create("manifest/a", b"1")
    (tmp_path / ".tmp" / "half-written").write_bytes(b"ha")
    (tmp_path / "manifest" / ".nfs0001").write_bytes(b"removed but open")

    assert store.list("") == ["manifest/a"]
    assert store.list("manifest/") == ["manifest/a"]


def test_a_start_removes_what_writers_left_that_died_long_ago(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.create("manifest/a", b"a")
    for name, age_s in (("old", 90_000), ("new", 60)):
        path = tmp_path / ".tmp" / name
        path.write_bytes(b"ha")
        then = path.stat().st_mtime - age_s
        os.utime(path, (then, then))

    store.probe()

    assert sorted(path.name for path in (tmp_path / ".tmp").iterdir()) == ["new"]


def test_a_disk_that_is_full_leaves_no_part_and_says_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True)

    assert done.stdout.count("raise the limit (ulimit -f)") == 2
    assert files(tmp_path) == ["manifest/first"]


@pytest.mark.parametrize("call", ["fsync", "link"])
@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "may not write"),
        (errno.EIO, "operating system's log"),
    ],
)
def test_what_the_system_refuses_becomes_advice_and_leaves_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, remedy: str
) -> None:
    store = LocalStore(tmp_path)
    store.create("manifest/a", b"1")
    monkeypatch.setattr(local.os, call, fails_with(number))

    with pytest.raises(StoreError, match=remedy) as raised:
        store.create("manifest/b", b"2")

    assert type(raised.value) is StoreError
    assert files(tmp_path) == ["manifest/a"]
    assert remedy in str(pickle.loads(pickle.dumps(raised.value)))


def test_the_folder_is_synced_after_the_name_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    store.create("manifest/a", b"1")
    order: list[str] = []
    link, fsync = os.link, os.fsync

    def seen_link(source: Any, target: Any) -> None:
        order.append("link")
        link(source, target)

    def seen_fsync(handle: int) -> None:
        order.append(f"fsync {os.readlink(f'/proc/self/fd/{handle}').removeprefix(str(tmp_path))}")
        fsync(handle)

    monkeypatch.setattr(local.os, "link", seen_link)
    monkeypatch.setattr(local.os, "fsync", seen_fsync)
    store.create("manifest/b", b"2")

    assert [step.split("/")[0:2] for step in order] == [["fsync ", ".tmp"], ["link"], ["fsync ", "manifest"]]


def test_a_folder_that_cannot_be_made_is_found_by_the_probe(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"not a folder")

    with pytest.raises(CheckpointError, match="Part of the path is a file") as raised:
        LocalStore(tmp_path / "file" / "checkpoint").probe()

    assert "Choose a folder that this user may write" in str(raised.value)


def test_a_file_system_without_hard_links_is_found_by_the_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local.os, "link", fails_with(errno.EPERM))

    with pytest.raises(CheckpointError, match="hard links"):
        LocalStore(tmp_path).probe()

    assert files(tmp_path) == []


def test_a_checkpoint_that_is_removed_while_in_use_does_not_begin_anew(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "checkpoint")
    store.create("manifest/a", b"1")
    (tmp_path / "checkpoint").rename(tmp_path / "elsewhere")

    with pytest.raises(StoreError, match="was removed"):
        store.create("manifest/b", b"2")

    assert not (tmp_path / "checkpoint").exists()


def test_all_ways_to_a_folder_have_one_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    urls = {LocalStore(way).url for way in ("real", "./real/", "link", tmp_path / "x" / ".." / "real", "~/real")}

    assert urls == {str((tmp_path / "real").resolve())}


def test_nothing_is_made_before_the_first_write(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "checkpoint")

    assert store.list("") == []
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize("key", ["", "/etc/x", "a//b", "../x", "a/../x", ".tmp/x", "a/.b", "a/", "a\0b"])
def test_keys_that_lead_elsewhere_are_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(InternalError, match="no key"):
        LocalStore(tmp_path).put(key, b"")
