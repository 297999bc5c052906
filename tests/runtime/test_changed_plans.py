"""A query that was changed goes on from its checkpoint: by itself where state fits, by `on_change` elsewhere."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

import microstream as ms


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def write(folder: Path, name: str, *rows: tuple[str, int]) -> None:
    """Lines of (user, second)."""
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"user": user, "at": f"2026-01-01T00:00:{second:02d}"}) for user, second in rows]
    (folder / name).write_text("\n".join(lines) + "\n")


def visits(folder: Path, size: str, id: str = "visits") -> ms.StreamFrame:
    seen = ms.read_files(
        folder, format="json", schema={"user": "str", "at": "timestamp[ms]"}, event_time="at", watch=True, name="seen"
    )
    return seen.groupby("user").window(ms.tumbling(size)).size().named(id)


def run(frame: ms.StreamFrame, client: Client, checkpoint: Path, **options: Any) -> list[tuple[Any, ...]]:
    """What one run over everything that is there emits."""
    query = frame.to_memory(name="out").start(
        name=checkpoint.name, checkpoint=checkpoint, trigger=ms.available_now(), client=client, **options
    )
    query.await_termination()
    table = query.table("out")
    return sorted((user, f"{start:%S}", size) for user, start, size in table.drop(columns="window_end").to_numpy())


def test_a_window_of_another_size_starts_empty_when_it_is_reset(client: Client, tmp_path: Path) -> None:
    folder, checkpoint = tmp_path / "in", tmp_path / "ck"
    write(folder, "1.json", ("ann", 1), ("ann", 2), ("bob", 11), ("ann", 12))
    assert run(visits(folder, "10s"), client, checkpoint) == [("ann", "00", 2)]
    write(folder, "2.json", ("ann", 13), ("bob", 31))
    with pytest.raises(ms.PlanError, match=r"Or give up .* on_change=\{'visits': 'reset'\}"):
        run(visits(folder, "5s"), client, checkpoint)

    changed = run(visits(folder, "5s"), client, checkpoint, on_change={"visits": "reset"})

    # Bob's visit at 11 and Ann's at 12 were in the state that was given up.
    assert changed == [("ann", "10", 1)]
    write(folder, "3.json", ("bob", 32), ("ann", 59))
    assert run(visits(folder, "5s"), client, checkpoint, on_change={"visits": "reset"}) == [("bob", "30", 2)]


def test_an_operator_that_is_gone_is_dropped(client: Client, tmp_path: Path) -> None:
    folder, checkpoint = tmp_path / "in", tmp_path / "ck"
    write(folder, "1.json", ("ann", 1), ("bob", 11))
    assert run(visits(folder, "10s"), client, checkpoint) == [("ann", "00", 1)]
    write(folder, "2.json", ("bob", 12), ("ann", 21))

    renamed = run(visits(folder, "10s", id="renamed"), client, checkpoint, on_change={"visits": "drop"})

    assert renamed == [("bob", "10", 1)]
    assert ms.open_checkpoint(checkpoint).operators()["operator"].tolist() == ["renamed"]


def test_before_the_first_batch_anything_may_change(client: Client, tmp_path: Path) -> None:
    folder, checkpoint = tmp_path / "in", tmp_path / "ck"
    folder.mkdir()
    (folder / "1.json").write_text('{"user": 7, "at": "2026-01-01T00:00:01"}\n')
    with pytest.raises(ms.BadRecordError, match="correct schema="):
        run(visits(folder, "10s"), client, checkpoint)
    mended = ms.read_files(
        folder, format="json", schema={"user": "int64", "at": "timestamp[ms]"}, event_time="at", watch=True, name="seen"
    )
    (folder / "2.json").write_text('{"user": 7, "at": "2026-01-01T00:00:31"}\n')

    seen = run(mended.groupby("user").window(ms.tumbling("10s")).size().named("visits"), client, checkpoint)

    assert seen == [(7, "00", 1)]


def publish(folder: Path, out: Path, client: Client, checkpoint: Path) -> None:
    sink = visits(folder, "10s").to_parquet(out, name="files")
    sink.start(name="kept", checkpoint=checkpoint, trigger=ms.available_now(), client=client).await_termination()


def test_a_folder_that_lost_what_was_published_is_not_written_to(client: Client, tmp_path: Path) -> None:
    folder, out, checkpoint = tmp_path / "in", tmp_path / "out", tmp_path / "ck"
    write(folder, "1.json", ("ann", 1), ("ann", 12))
    publish(folder, out, client, checkpoint)
    shutil.rmtree(out)
    write(folder, "2.json", ("ann", 23))

    for _ in range(2):
        with pytest.raises(ms.CheckpointError, match="sink files: .*out has nothing of what this query published"):
            publish(folder, out, client, checkpoint)

    publish(folder, tmp_path / "other", client, checkpoint)
    written = ms.open_parquet(tmp_path / "other").to_table().to_pandas()
    assert written["window_start"].dt.second.tolist() == [10]


def test_a_sink_may_write_to_another_folder_from_now_on(client: Client, tmp_path: Path) -> None:
    folder, checkpoint = tmp_path / "in", tmp_path / "ck"
    write(folder, "1.json", ("ann", 1), ("ann", 12))
    publish(folder, tmp_path / "old", client, checkpoint)
    write(folder, "2.json", ("ann", 23))

    publish(folder, tmp_path / "new", client, checkpoint)

    seconds = {
        name: ms.open_parquet(tmp_path / name).to_table().to_pandas()["window_start"].dt.second.tolist()
        for name in ("old", "new")
    }
    assert seconds == {"old": [0], "new": [10]}


def test_rows_do_not_go_into_the_folder_of_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in", "1.json", ("ann", 1))

    for out, checkpoint in (("ck", f"{tmp_path}/ck/"), (tmp_path / "ck", "ck"), ("ck", "ck")):
        with pytest.raises(ms.PlanError, match="sink 'files' writes to the folder of the checkpoint"):
            visits(tmp_path / "in", "10s").to_parquet(out, name="files").start(checkpoint=checkpoint)


def test_a_sink_that_is_no_folder_may_have_the_name_of_the_checkpoint(client: Client, tmp_path: Path) -> None:
    write(tmp_path / "in", "1.json", ("ann", 1))
    checkpoint = tmp_path / "ck"

    query = (
        visits(tmp_path / "in", "10s")
        .to_memory(name=str(checkpoint))
        .start(checkpoint=checkpoint, trigger=ms.available_now(), client=client)
    )

    assert query.await_termination(60)


def test_a_change_that_is_neither_drop_nor_reset_is_refused_before_anything_starts(tmp_path: Path) -> None:
    write(tmp_path / "in", "1.json", ("ann", 1))

    with pytest.raises(ms.PlanError, match="'visits' is to be 'forget': say 'drop' or 'reset'"):
        visits(tmp_path / "in", "10s").to_memory().start(on_change={"visits": "forget"})  # type: ignore[dict-item]


def test_lateness_that_grows_opens_nothing_that_was_closed_for_good(client: Client, tmp_path: Path) -> None:
    folder, checkpoint = tmp_path / "in", tmp_path / "ck"

    def run(lateness: str) -> tuple[list[list[Any]], list[int]]:
        seen = ms.read_files(
            folder, format="json", schema={"user": "str", "at": "timestamp[ms]"}, event_time="at", watch=True
        )
        totals = seen.groupby("user").window(ms.tumbling("1s"), allowed_lateness=lateness).size().named("totals")
        query = ms.start(
            totals.to_memory("out"),
            totals.late.to_memory("late"),
            checkpoint=checkpoint,
            trigger=ms.available_now(),
            client=client,
        )
        query.await_termination()
        table = query.table("out")
        rows = [[f"{end:%S}", size, number] for _, _, end, size, number in table.to_numpy()]
        return sorted(rows), sorted(query.table("late")["at"].dt.second)

    write(folder, "1.json", ("ann", 1), ("ann", 40))
    assert run("10s") == ([["02", 1, 0]], [])
    write(folder, "2.json", ("ann", 1), ("ann", 20), ("ann", 33), ("ann", 34))

    # Windows that ended by 30 were given up with 10 s: the one that ended at 2 must not come a second time.
    assert run("50s") == ([["34", 1, 0], ["35", 1, 0]], [1, 20])

    write(folder, "3.json", ("ann", 33))
    assert run("50s") == ([["34", 2, 1]], [])
