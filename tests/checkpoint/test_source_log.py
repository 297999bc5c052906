from __future__ import annotations

from typing import Any

import pytest

from microstream.checkpoint.keys import SOURCES, source_entry_of, source_key
from microstream.checkpoint.memory import MemoryStore
from microstream.checkpoint.objects import FsspecStore
from microstream.checkpoint.source_log import SourceLog
from microstream.checkpoint.store import ObjectStore, StoreError
from microstream.errors import CheckpointError


class Forgetful(MemoryStore):
    """Loses the reply of every `create` that succeeds."""

    def create(self, key: str, data: bytes) -> None:
        super().create(key, data)
        raise StoreError("no reply")


class Away(MemoryStore):
    """Does not answer."""

    def create(self, key: str, data: bytes) -> None:
        raise StoreError("away")


@pytest.mark.parametrize("kind", ["memory", "local", "s3"])
def test_an_entry_is_what_its_first_writer_said_on_every_store(kind: str, request: pytest.FixtureRequest) -> None:
    store: ObjectStore = request.getfixturevalue({"memory": "store", "local": "local_store", "s3": "s3_store"}[kind])
    mine, theirs = SourceLog(store, "in/*.json"), SourceLog(store, "in/*.json")

    answers = [mine.create(0, {"n": 1}), theirs.create(0, {"n": 2}), theirs.create(1, {"n": 3})]

    assert answers == [{"n": 1}, {"n": 1}, {"n": 3}]
    assert (mine.get(0), mine.get(1), mine.get(2), mine.length()) == ({"n": 1}, {"n": 3}, None, 2)


def test_a_lost_reply_is_looked_up_and_a_store_that_is_away_is_an_error() -> None:
    assert SourceLog(Forgetful(), "a").create(0, {"n": 1}) == {"n": 1}
    with pytest.raises(StoreError, match="was not written: away"):
        SourceLog(Away(), "a").create(0, {"n": 1})


def test_sources_do_not_see_each_other_and_facts_are_not_counted() -> None:
    store = MemoryStore()
    SourceLog(store, "a").create(0, {})
    SourceLog(store, "a").create("schema", {"x": 1})

    assert SourceLog(store, "b").get(0) is None
    assert (SourceLog(store, "a").length(), SourceLog(store, "b").length()) == (1, 0)
    assert SourceLog(store, "a").get("schema") == {"x": 1}


@pytest.mark.parametrize("data", [b"", b"no zstd"])
def test_a_damaged_entry_is_an_error_that_names_it(data: bytes) -> None:
    store = MemoryStore()
    store.put(source_key("a", 3), data)

    with pytest.raises(CheckpointError, match=rf"{source_key('a', 3)}: cannot be read"):
        SourceLog(store, "a").get(3)


def test_names_say_their_number() -> None:
    assert source_entry_of(source_key("s3://b/in", 41)) == 41
    assert source_entry_of(source_key("a", "schema")) is None
    assert source_key("a", 0).startswith(SOURCES)


def test_a_log_in_a_bucket_needs_no_listing_to_be_read(s3_options: dict[str, Any]) -> None:
    store = FsspecStore("s3://bucket/log", s3_options)

    assert SourceLog(store, "a").get(0) is None
    assert SourceLog(store, "a").length() == 0
