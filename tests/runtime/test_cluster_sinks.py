from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest
from distributed import Client, LocalCluster

import microstream as ms

PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(processes=True, n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def counts() -> ms.StreamFrame:
    """200 keys, a window of each in every one of three batches."""
    frames = [
        pd.DataFrame({"k": np.arange(200), "at": pd.Timestamp("2026-01-01") + pd.Timedelta(n, "min")}) for n in range(3)
    ]
    return ms.from_pandas(frames, event_time="at").groupby("k").window(ms.tumbling("1min")).size()


def test_sinks_of_all_kinds_take_the_rows_of_all_workers(
    client: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = tmp_path / "calls"
    calls.mkdir()

    def write(rows: pd.DataFrame, batch: ms.Batch) -> None:
        rows.to_parquet(calls / f"{batch.id}-{batch.lane}.parquet")

    query = ms.start(
        counts().to_parquet(str(tmp_path / "table"), "window_start", name="table"),
        counts().to_parquet(str(tmp_path / "rolled"), every="1h", name="rolled"),
        counts().for_each_batch(write),
        counts().to_console(rows=3),
        name="kinds",
        checkpoint=str(tmp_path / "checkpoint"),
        client=client,
        lanes=4,
        trigger=ms.continuously(),
    )
    assert query.await_termination(PATIENCE_S)

    table = ms.open_parquet(str(tmp_path / "table")).to_table().to_pandas()
    assert len(table) == 600
    assert not table.duplicated(["k", "window_start"]).any()
    assert len([p for p in (tmp_path / "table").iterdir() if p.name.startswith("window_start=2026")]) == 3
    assert ds.dataset(str(tmp_path / "rolled")).count_rows() == 600
    assert len(list((tmp_path / "rolled").glob("*.parquet"))) == 1
    assert ds.dataset(str(calls)).count_rows() == 600
    assert len(list(calls.iterdir())) > 4
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("console, batch")]
    assert printed
    assert sum(int(line.split(": ")[1].split(" ")[0].replace(",", "")) for line in printed) == 600


def test_an_error_of_a_function_on_a_worker_names_sink_batch_and_lane(client: Client, tmp_path: Path) -> None:
    def write(rows: pd.DataFrame, batch: ms.Batch) -> None:
        raise OSError("no space left")

    query = ms.start(
        ms.from_pandas(pd.DataFrame({"n": [1]})).for_each_batch(write, name="disk"),
        name="full",
        checkpoint=str(tmp_path),
        client=client,
        trigger=ms.continuously(),
    )
    with pytest.raises(ms.UserFunctionError, match=r"query full: sink 'disk', batch 0, lane \d: .*no space left") as it:
        query.await_termination(PATIENCE_S)

    assert isinstance(it.value.__cause__, OSError)
