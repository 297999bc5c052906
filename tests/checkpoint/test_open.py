from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from microstream.checkpoint.local import LocalStore
from microstream.checkpoint.objects import FsspecStore
from microstream.checkpoint.open import open_store
from microstream.errors import PlanError


def test_a_path_opens_a_folder(tmp_path: Path) -> None:
    for url in (str(tmp_path), f"{tmp_path}/", f"file://{tmp_path}", f"file://localhost{tmp_path}/"):
        store = open_store(url)

        assert isinstance(store, LocalStore)
        assert store.url == str(tmp_path.resolve())


def test_a_file_url_may_be_quoted(tmp_path: Path) -> None:
    assert open_store(f"file://{tmp_path}/a%20b").url == str(tmp_path.resolve() / "a b")


def test_every_url_opens_the_same_place_again(tmp_path: Path, s3_options: dict[str, Any]) -> None:
    for url, options in ((f"{tmp_path}/50%25 ä", None), ("s3://bucket/again/", s3_options)):
        store = open_store(url, options)
        store.put("job.json", b"{}")

        again = open_store(store.url, options)

        assert again.url == store.url
        assert again.list("") == ["job.json"]


@pytest.mark.parametrize("url", ["s3://bucket/totals", "s3://bucket/totals/", "s3a://bucket/totals"])
def test_a_bucket_has_one_url(url: str) -> None:
    store = open_store(url)

    assert isinstance(store, FsspecStore)
    assert store.url == "s3://bucket/totals"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://x", "workers in other processes cannot reach it"),
        ("hdfs://node/x", "s3://, gs:// or abfs://"),
        ("ftp://node/x", "s3://, gs:// or abfs://"),
        ("S3//bucket", None),
        ("file://data/x", "file:///data/x"),
        ("", "names no folder"),
        ("s3://", "names no bucket"),
    ],
)
def test_what_cannot_hold_a_checkpoint_is_refused(url: str, said: str | None) -> None:
    if said is None:
        assert isinstance(open_store(url), LocalStore)
        return

    with pytest.raises(PlanError, match=said):
        open_store(url)


def test_options_for_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no storage_options"):
        open_store(str(tmp_path), {"key": "x"})


@pytest.mark.parametrize(("url", "client"), [("gs://bucket/x", "gcsfs"), ("abfs://box/x", "adlfs")])
def test_a_client_that_is_not_installed_is_named(url: str, client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(PlanError, match=f"pip install {client}"):
        open_store(url)
