from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pandas as pd
import psutil
import pyarrow as pa
import pytest
from distributed import Client, LocalCluster
from distributed.scheduler import DEFAULT_EXTENSIONS
from queries import SCHEMA, Row, frames, to_memory, totals, tuples

from microstream.checkpoint.codec import decode
from microstream.checkpoint.keys import MANIFESTS
from microstream.checkpoint.local import LocalStore
from microstream.checkpoint.manifest import Manifest
from microstream.errors import CheckpointError, PlanError, UserFunctionError
from microstream.plan.dtypes import to_table
from microstream.plan.nodes import Late, MapBatches
from microstream.plan.stages import Stages
from microstream.runtime.query import StreamingQuery, compute, start_query
from microstream.runtime.trigger import Continuously

PATIENCE_S = 60.0
NAMES = [f"user-{n}" for n in range(40)]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(processes=True, n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def batches(count: int) -> list[list[Row]]:
    """Frames that move on by 7 us each; every third has rows that are late."""
    return [
        [(NAMES[(n * 13 + k) % 40], n + k, 7 * n + k - (60 if k == 0 and n % 3 == 2 else 0)) for k in range(6)]
        for n in range(count)
    ]


def plan(count: int) -> Stages:
    inner = totals(frames(*batches(count), delay_us=5), id="totals")
    outer = totals(inner, size_us=30, id="more", aggregates=())
    return to_memory(out=inner, late=Late(operator=inner), more=outer)


def start(stages: Stages, folder: Path, client: Client | None, **options: Any) -> StreamingQuery:
    name = options.pop("name", folder.name)
    return start_query(
        stages=stages, name=name, checkpoint=str(folder), trigger=Continuously(), client=client, **options
    )


def rows_of(stages: Stages, *queries: StreamingQuery) -> dict[str, list[tuple[Any, ...]]]:
    """Rows per sink over all runs, sorted."""
    result = {}
    for sink in stages.sinks:
        tables = [to_table(query.table(sink.name), sink.schema, sink.name) for query in queries]
        result[sink.name] = tuples(pa.concat_tables(tables))
    return result


def expected(stages: Stages) -> dict[str, list[tuple[Any, ...]]]:
    return {name: tuples(table) for name, table in compute(stages).items()}


def head_of(folder: Path) -> Manifest:
    store = LocalStore(folder)
    key = store.list(MANIFESTS)[-1]
    return decode(store.get(key), key)


def wait_for_batch(query: StreamingQuery, batch: int) -> None:
    """Until `batch` is committed, or the query ends."""
    while (query.last_progress or {"batchId": -1})["batchId"] < batch:
        if query.await_termination(timeout=0.01):
            return


@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_a_cluster_finds_what_one_thread_finds(client: Client, tmp_path: Path, lanes: int) -> None:
    stages = plan(12)

    query = start(stages, tmp_path, client, lanes=lanes)

    assert query.await_termination(PATIENCE_S)
    assert rows_of(stages, query) == expected(stages)
    assert len(head_of(tmp_path).operators[0].lane_starts) == lanes


def test_a_query_goes_on_where_it_stopped_with_other_lanes_and_more_frames(client: Client, tmp_path: Path) -> None:
    first = start(plan(40), tmp_path, client, lanes=2)
    wait_for_batch(first, 3)
    first.stop()
    stopped = head_of(tmp_path)
    assert not stopped.finished

    second = start(plan(45), tmp_path, client, lanes=3)

    assert second.await_termination(PATIENCE_S)
    assert second.id == first.id
    assert rows_of(plan(45), first, second) == expected(plan(45))
    head = head_of(tmp_path)
    assert (head.finished, head.lanes, head.epoch) == (True, 3, stopped.epoch + 1)
    assert head.batch == 44


def test_a_finished_query_returns_at_once_and_writes_no_batch(client: Client, tmp_path: Path) -> None:
    start(plan(3), tmp_path, client).await_termination(PATIENCE_S)
    before = head_of(tmp_path)

    again = start(plan(3), tmp_path, client)

    assert again.await_termination(PATIENCE_S)
    assert again.last_progress is None
    assert (head_of(tmp_path).batch, head_of(tmp_path).finished) == (before.batch, True)


def test_a_finished_query_takes_no_more_input(client: Client, tmp_path: Path) -> None:
    start(plan(3), tmp_path, client).await_termination(PATIENCE_S)

    with pytest.raises(PlanError, match=r"is finished, but source rows has more input \(frames-0 from offset 3 on\)"):
        start(plan(4), tmp_path, client)


def test_the_checkpoint_of_another_query_is_refused_and_both_are_named(client: Client, tmp_path: Path) -> None:
    start(plan(2), tmp_path, client).await_termination(PATIENCE_S)
    before = head_of(tmp_path)

    with pytest.raises(PlanError) as caught:
        start(to_memory(out=totals(frames(name="other"), id="counts")), tmp_path, client)

    assert str(tmp_path) in str(caught.value)
    assert {"totals", "more", "rows"} <= {word for p in caught.value.problems for word in p.split("'")}
    assert head_of(tmp_path) == before


def test_two_queries_on_one_cluster_do_not_meet(client: Client, tmp_path: Path) -> None:
    plans = {"long": plan(25), "short": plan(18)}

    running = {name: start(stages, tmp_path / name, client, lanes=2) for name, stages in plans.items()}

    assert all(query.await_termination(PATIENCE_S) for query in running.values())
    for name, stages in plans.items():
        assert rows_of(stages, running[name]) == expected(stages)
    assert running["long"].id != running["short"].id


def test_the_death_of_a_worker_changes_no_result(client: Client, tmp_path: Path) -> None:
    stages = plan(50)
    pids = client.run(os.getpid)
    query = start(stages, tmp_path, client, lanes=4)
    wait_for_batch(query, 10)

    os.kill(next(iter(pids.values())), signal.SIGKILL)

    assert query.await_termination(PATIENCE_S)
    assert rows_of(stages, query) == expected(stages)
    client.wait_for_workers(2, timeout=PATIENCE_S)
    assert len(set(client.run(os.getpid).values()) - set(pids.values())) == 1


def test_an_error_of_the_user_s_arrives_from_a_worker_with_its_cause(client: Client, tmp_path: Path) -> None:
    def ratio(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(value=1 // 0)

    stages = to_memory(out=MapBatches(child=frames([("a", 1, 1)]), fn=ratio, schema=SCHEMA, name="ratio"))
    query = start(stages, tmp_path, client)

    with pytest.raises(UserFunctionError, match="batch 0, lane 0: ratio failed at frames-0 offset 0") as caught:
        query.await_termination(PATIENCE_S)

    assert caught.value.operator == "ratio"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert head_of(tmp_path).batch == -1


def test_an_error_whose_cause_cannot_travel_arrives_in_words(client: Client, tmp_path: Path) -> None:
    def locked(frame: pd.DataFrame) -> pd.DataFrame:
        raise ValueError("no connection", threading.Lock())

    stages = to_memory(out=MapBatches(child=frames([("a", 1, 1)]), fn=locked, schema=SCHEMA, name="lookup"))
    query = start(stages, tmp_path, client)

    with pytest.raises(UserFunctionError, match="lookup failed at frames-0 offset 0") as caught:
        query.await_termination(PATIENCE_S)

    assert str(caught.value.__cause__).startswith("ValueError: ('no connection'")


def test_a_class_that_a_worker_cannot_set_up_ends_the_query(client: Client, tmp_path: Path) -> None:
    class ColdModel:
        def __init__(self) -> None:
            raise FileNotFoundError("model.bin")

        def __call__(self, frame: pd.DataFrame) -> pd.DataFrame:
            return frame

    stages = to_memory(out=MapBatches(child=frames([("a", 1, 1)]), fn=ColdModel, schema=SCHEMA, name="score"))

    with pytest.raises(UserFunctionError, match="score cannot be set up on worker"):
        start(stages, tmp_path, client).await_termination(PATIENCE_S)


HOLDER = """
import sys, threading
sys.path.insert(0, {tests!r})
from queries import frames, to_memory, totals
from microstream.runtime.query import start_query
from microstream.runtime.trigger import Every
stages = to_memory(out=totals(frames([("a", 1, 1)], [("a", 2, 2)])))
query = start_query(stages=stages, name="holder", checkpoint={folder!r}, trigger=Every(10**12), client={scheduler!r})
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_checkpoint_belongs_to_one_process_until_that_has_gone(client: Client, tmp_path: Path) -> None:
    stages = to_memory(out=totals(frames([("a", 1, 1)], [("a", 2, 2)])))
    script = HOLDER.format(tests=str(Path(__file__).parent), folder=str(tmp_path), scheduler=client.scheduler.address)
    holder = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"

        with pytest.raises(CheckpointError, match=f"process {holder.pid} on .* runs a query on checkpoint"):
            start(stages, tmp_path, client)
    finally:
        holder.kill()
        holder.wait()

    query = start(stages, tmp_path, client)
    assert query.await_termination(PATIENCE_S)
    assert head_of(tmp_path).finished


def test_a_query_without_a_cluster_starts_one_and_leaves_nothing_behind(tmp_path: Path) -> None:
    stages = to_memory(out=frames([("a", 1, 1)], [("b", 2, 2)]))
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    extensions, config = dict(DEFAULT_EXTENSIONS), dict(dask.config.config["distributed"])

    query = start(stages, tmp_path, None, settings={"workers": 1})
    assert query.await_termination(PATIENCE_S)

    left = [p for p in psutil.Process().children(recursive=True) if p.pid not in before and p.is_running()]
    # Python's own helpers of multiprocessing stay until the interpreter ends; workers are forked from one of them.
    others = [
        p for p in left if not re.search("resource_tracker|forkserver", str(p.cmdline())) or p.ppid() != os.getpid()
    ]
    assert [p.cmdline() for p in others] == []
    assert tuples(to_table(query.table(), SCHEMA, "out")) == [("a", 1, 1), ("b", 2, 2)]
    # Another cluster of this process must find Dask as it was.
    assert extensions == DEFAULT_EXTENSIONS
    assert config == dask.config.config["distributed"]
