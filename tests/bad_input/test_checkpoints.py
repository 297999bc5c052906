"""Checkpoints that a query may not or cannot use: refused before anything is changed, with what to do instead."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
import pandas as pd
import psutil
import pytest
import zstandard
from clicks import CLOSING, append, clicks, numbers, published_sums, run, sums, sums_of, topic, until, whole
from distributed import Client

import microstream as ms
from microstream.checkpoint.codec import unpack
from microstream.checkpoint.keys import MANIFESTS
from microstream.checkpoint.local import LocalStore
from microstream.testing.kafka import Broker

pytestmark = pytest.mark.broker

TINY_BYTES = 100


def test_a_checkpoint_of_another_query_is_refused_with_all_differences(
    broker: Broker, client: Client, tmp_path: Path
) -> None:
    source, sink = topic(broker), topic(broker, "out")
    append(broker, source, range(10))
    run(sums(clicks(broker, source)).to_kafka(sink), client, tmp_path / "ck")
    before = whole(tmp_path / "ck")
    other = (
        clicks(broker, source).groupby(["user", "n"]).window(ms.tumbling("5s")).agg(total=("n", "sum")).named("sums")
    )

    with pytest.raises(ms.PlanError) as caught:
        run(other.to_kafka(sink), client, tmp_path / "ck", name="other")

    assert str(caught.value) == (
        f"query other: the plan cannot go on from checkpoint {tmp_path / 'ck'}: operator 'sums' was "
        '{"keys": [["user", "large_string"]]} and is now {"keys": [["user", "large_string"], ["n", "int64"]]}. Start '
        "the query that wrote it, or use a new checkpoint folder for this one. Or give up what is kept of them, with "
        "on_change={'sums': 'reset'}."
    )
    assert whole(tmp_path / "ck") == before


def test_a_checkpoint_of_other_topics_is_refused(broker: Broker, client: Client, tmp_path: Path) -> None:
    source, other = topic(broker), topic(broker)
    append(broker, source, range(3))
    run(clicks(broker, source).to_null(name="none"), client, tmp_path / "ck")

    with pytest.raises(ms.PlanError, match=f"its source '{source}' is not in this query"):
        run(clicks(broker, other).to_null(name="none"), client, tmp_path / "ck")


@pytest.mark.parametrize("which", ["the newest manifest", "job.json"])
def test_a_checkpoint_of_a_newer_format_asks_for_an_upgrade(
    broker: Broker, client: Client, tmp_path: Path, which: str
) -> None:
    source = topic(broker)
    rows = clicks(broker, source).to_null(name="none")
    run(rows, client, tmp_path / "ck")
    if which == "job.json":
        path = tmp_path / "ck" / "job.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    else:
        path = tmp_path / "ck" / LocalStore(tmp_path / "ck").list(MANIFESTS)[-1]
        changed = json.loads(unpack(path.read_bytes(), path.name)) | {"format": 99}
        path.write_bytes(zstandard.compress(json.dumps(changed).encode()))
    before = files(tmp_path / "ck")

    with pytest.raises(ms.CheckpointError, match="it has format 99, .* newer version: upgrade microstream") as caught:
        run(rows, client, tmp_path / "ck", name="old")

    assert str(caught.value).startswith("query old: ")
    assert files(tmp_path / "ck") == before


def test_a_manifest_cut_short_is_told_from_a_whole_one(broker: Broker, client: Client, tmp_path: Path) -> None:
    rows = clicks(broker, topic(broker)).to_null(name="none")
    run(rows, client, tmp_path / "ck")
    path = tmp_path / "ck" / LocalStore(tmp_path / "ck").list(MANIFESTS)[-1]
    path.write_bytes(path.read_bytes()[:-10])

    with pytest.raises(ms.CheckpointError, match="no whole zstd frame .* The file is damaged"):
        run(rows, client, tmp_path / "ck")


def test_a_copied_checkpoint_is_refused_and_the_original_goes_on(
    broker: Broker, client: Client, tmp_path: Path
) -> None:
    source, sink = topic(broker), topic(broker, "out")
    append(broker, source, range(5))
    copied = clicks(broker, source).to_kafka(sink)
    run(copied, client, tmp_path / "ck")
    shutil.copytree(tmp_path / "ck", tmp_path / "copy")
    append(broker, source, range(5, 10))

    with pytest.raises(ms.CheckpointError) as caught:
        run(copied, client, tmp_path / "copy")
    run(copied, client, tmp_path / "ck")

    said = f"{tmp_path / 'copy'}: it was written at {tmp_path / 'ck'}, so it is a copy or was moved"
    assert said in str(caught.value)
    assert "start the query at the original place, or give this one an empty folder" in str(caught.value)
    assert numbers(broker, sink) == list(range(10))


def test_a_checkpoint_rolled_back_to_an_older_copy_publishes_nothing(
    broker: Broker, client: Client, tmp_path: Path
) -> None:
    source, sink = topic(broker), topic(broker, "out")
    copied = clicks(broker, source).to_kafka(sink)
    append(broker, source, range(5))
    run(copied, client, tmp_path / "ck")
    shutil.copytree(tmp_path / "ck", tmp_path / "older")
    append(broker, source, range(5, 10))
    run(copied, client, tmp_path / "ck")

    shutil.rmtree(tmp_path / "ck")
    (tmp_path / "older").rename(tmp_path / "ck")
    with pytest.raises(ms.CheckpointError, match="rolled back to an older copy.* Nothing was published. Restore"):
        run(copied, client, tmp_path / "ck")

    assert numbers(broker, sink) == list(range(10))


def test_a_finished_query_returns_at_once_and_refuses_more_input(client: Client, tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": ["a", "b"], "at": pd.to_datetime(["2026-01-01", "2026-01-02"])})

    def daily(*frames: pd.DataFrame) -> ms.StreamSink:
        rows = ms.from_pandas(list(frames), event_time="at", name="rows")
        return rows.groupby("user").window(ms.tumbling("1D")).size().named("daily").to_memory(name="days")

    first = run(daily(frame), client, tmp_path / "ck", trigger=ms.continuously())
    again = run(daily(frame), client, tmp_path / "ck", trigger=ms.continuously())
    with pytest.raises(ms.PlanError) as caught:
        run(daily(frame, frame), client, tmp_path / "ck", trigger=ms.continuously())

    assert len(first.table()) == 2
    assert len(again.table()) == 0
    assert again.status == "stopped"
    assert again.last_progress is None
    assert "is finished, but source rows has more input (frames-0 from offset 1 on)" in str(caught.value)
    assert whole(tmp_path / "ck").finished


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_read(client: Client, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    rows = ms.from_pandas(pd.DataFrame({"n": [1]})).to_memory(name="rows")

    with pytest.raises(ms.CheckpointError) as caught:
        run(rows, client, tmp_path / "file" / "ck", name="blocked")

    assert f"query blocked: Checkpoint {tmp_path / 'file' / 'ck'}: an object cannot be created" in str(caught.value)
    assert "Part of the path is a file, not a folder: choose another path." in str(caught.value)


def test_while_the_workers_disk_is_full_the_query_waits_and_says_so_and_then_goes_on(
    broker: Broker, client: Client, tmp_path: Path
) -> None:
    source, sink = topic(broker), topic(broker, "out")
    append(broker, source, range(10))
    query = ms.start(
        sums(clicks(broker, source)).to_kafka(sink),
        checkpoint=str(tmp_path / "ck"),
        trigger=ms.continuously(),
        client=client,
    )
    query.process_all_available()

    with full_disk(client):
        append(broker, source, [*range(10, 20), CLOSING])
        until(lambda: query.status.startswith("waiting: "), "the query to notice that the disk is full")
        waiting = query.status
        assert whole(tmp_path / "ck").batch == 0
    query.process_all_available()

    assert "The file is larger than this process may write: raise the limit" in waiting
    assert query.status == "running"
    assert published_sums(broker, sink) == sums_of(range(20))
    query.stop()
    whole(tmp_path / "ck")


def test_a_full_disk_ends_the_query_after_store_wait_and_a_restart_loses_nothing(
    broker: Broker, client: Client, tmp_path: Path
) -> None:
    source, sink = topic(broker), topic(broker, "out")
    totals = sums(clicks(broker, source)).to_kafka(sink)
    append(broker, source, range(10))
    run(totals, client, tmp_path / "ck")
    append(broker, source, [*range(10, 20), CLOSING])

    with (
        full_disk(client),
        dask.config.set({"microstream.store_wait": "1s"}),
        pytest.raises(ms.CheckpointError) as caught,
    ):
        run(totals, client, tmp_path / "ck", name="totals")
    assert whole(tmp_path / "ck").batch == 0
    run(totals, client, tmp_path / "ck", name="totals")

    assert str(caught.value).startswith("query totals")
    assert "What was committed before is safe: mend it and start the query again." in str(caught.value)
    assert published_sums(broker, sink) == sums_of(range(20))


@contextmanager
def full_disk(client: Client) -> Iterator[None]:
    """No worker can write more than 100 bytes into a file."""
    workers = [psutil.Process(pid) for pid in client.run(os.getpid).values()]
    before = [worker.rlimit(psutil.RLIMIT_FSIZE) for worker in workers]
    for worker, (_, hard) in zip(workers, before, strict=True):
        worker.rlimit(psutil.RLIMIT_FSIZE, (TINY_BYTES, hard))
    try:
        yield
    finally:
        for worker, limits in zip(workers, before, strict=True):
            worker.rlimit(psutil.RLIMIT_FSIZE, limits)


def files(folder: Path) -> dict[str, bytes]:
    """Everything in `folder` but what it was probed with."""
    found = (path for path in folder.rglob("*") if path.is_file() and "probe" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}
