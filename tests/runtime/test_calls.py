"""On a local cluster, stages of small batches are called on workers; with longer triggers they are tasks of Dask."""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import dask
import pandas as pd
import psutil
import pytest
from distributed import get_worker, worker_client
from queries import SCHEMA, frames, to_memory, totals, tuples

from microstream.errors import UserFunctionError
from microstream.plan.dtypes import to_table
from microstream.plan.nodes import MapBatches
from microstream.plan.stages import Stages
from microstream.runtime.local import local_cluster
from microstream.runtime.query import StreamingQuery, compute, start_query
from microstream.runtime.trigger import AvailableNow, Continuously, Every, Trigger

PATIENCE_S = 60.0


def executing(frame: pd.DataFrame) -> pd.DataFrame:
    """Each row with how many of Dask's tasks its worker runs."""
    return frame.assign(value=len(get_worker().state.executing))


def start(stages: Stages, folder: Path, trigger: Trigger, **settings: Any) -> StreamingQuery:
    return start_query(
        stages=stages,
        name=folder.name,
        checkpoint=str(folder),
        trigger=trigger,
        lanes=2,
        settings={"workers": 2} | settings,
    )


@pytest.mark.parametrize(
    ("trigger", "settings", "tasks"),
    [
        (Every(50_000), {}, 0),
        (Continuously(), {}, 0),
        (Every(250_000), {}, 1),
        (AvailableNow(), {}, 1),
        (Continuously(), {"call_below": "0s"}, 1),
    ],
)
def test_the_trigger_decides_whether_stages_are_tasks(
    tmp_path: Path, trigger: Trigger, settings: dict[str, str], tasks: int
) -> None:
    rows = [("a", 1, 1), ("b", 2, 2)]
    stages = to_memory(out=MapBatches(child=frames(rows), fn=executing, schema=SCHEMA, name="executing"))

    query = start(stages, tmp_path, trigger, **settings)

    assert query.await_termination(PATIENCE_S)
    assert tuples(to_table(query.table(), SCHEMA, "out")) == [(key, tasks, at) for key, _, at in rows]


def test_the_death_of_a_worker_that_is_called_changes_no_result(
    tmp_path: Path, log_records: list[logging.LogRecord]
) -> None:
    inner = totals(frames(*([(f"k{n % 7}", n, 7 * n)] for n in range(60)), delay_us=5), id="totals")
    stages = to_memory(out=inner, more=totals(inner, size_us=30, id="more", aggregates=()))
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    query = start(stages, tmp_path, Continuously())
    while (query.last_progress or {"batchId": -1})["batchId"] < 10:
        assert not query.await_termination(timeout=0.01)

    new = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
    os.kill(next(process.pid for process in new if process.ppid() != os.getpid()), signal.SIGKILL)

    assert query.await_termination(PATIENCE_S)
    assert any("is lost" in record.getMessage() for record in log_records)
    for name, table in compute(stages).items():
        assert tuples(to_table(query.table(name), table.schema, name)) == tuples(table)


def test_an_error_of_the_user_s_arrives_from_a_call_with_its_cause(tmp_path: Path) -> None:
    def ratio(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(value=1 // 0)

    stages = to_memory(out=MapBatches(child=frames([("a", 1, 1)]), fn=ratio, schema=SCHEMA, name="ratio"))
    query = start(stages, tmp_path, Continuously())

    with pytest.raises(UserFunctionError, match="batch 0, lane 0: ratio failed at frames-0 offset 0") as caught:
        query.await_termination(PATIENCE_S)

    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_function_may_start_tasks_of_its_own_and_wait_for_them(tmp_path: Path) -> None:
    def squared(frame: pd.DataFrame) -> pd.DataFrame:
        with worker_client() as client:
            return frame.assign(value=client.submit(pow, 3, 2).result(PATIENCE_S))

    stages = to_memory(out=MapBatches(child=frames([("a", 1, 1)]), fn=squared, schema=SCHEMA, name="squared"))
    query = start(stages, tmp_path, Continuously(), workers=1)

    assert query.await_termination(PATIENCE_S)
    assert tuples(to_table(query.table(), SCHEMA, "out")) == [("a", 9, 1)]


@pytest.mark.parametrize("trigger", [Continuously(), Every(250_000)], ids=["called", "task"])
def test_a_function_that_leaves_the_process_ends_the_query_and_not_the_workers(
    tmp_path: Path, trigger: Trigger
) -> None:
    def leave(frame: pd.DataFrame) -> pd.DataFrame:
        sys.exit(3)

    stages = to_memory(out=MapBatches(child=frames([("a", 1, 1)]), fn=leave, schema=SCHEMA, name="leave"))
    query = start(stages, tmp_path, trigger)

    with pytest.raises(UserFunctionError, match=r"called sys\.exit\(3\)"):
        query.await_termination(PATIENCE_S)


def test_a_cluster_that_is_called_is_never_idle_for_dask(tmp_path: Path) -> None:
    async def idle_timeout() -> float | None:
        with dask.config.set({"distributed.scheduler.idle-timeout": "1s"}):
            cluster = await local_cluster(1)
        async with cluster:
            timeout: float | None = cluster.scheduler.idle_timeout
            return timeout

    assert asyncio.run(idle_timeout()) is None
