from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queries import SCHEMA, Row, frames, to_memory, totals, tuples
from workers import Cluster

from microstream.checkpoint.keys import JOB
from microstream.errors import UserFunctionError
from microstream.plan.nodes import Late, MapBatches
from microstream.runtime.assembly import unsealed
from microstream.runtime.engine import ExchangeLostError
from microstream.runtime.task import PublishReceipt, StageReceipt, StageTask
from microstream.runtime.worker import StateMissingError

NAMES = "abcdefgh"
ROWS = [(name, n, n) for n, name in enumerate(NAMES)]
keys = st.one_of(st.none(), st.sampled_from(NAMES))
rows = st.lists(st.tuples(keys, st.one_of(st.none(), st.integers(-9, 9)), st.integers(0, 60)), max_size=12)


def cluster_of(*batches: list[Row], addresses: tuple[str, ...] = ("a", "b"), delay_us: int = 0) -> Cluster:
    source = frames(*batches, delay_us=delay_us)
    operator = totals(source)
    return Cluster(to_memory(out=operator, late=Late(operator=operator), all=source), addresses)


def everything(cluster: Cluster, batches: int) -> dict[str, list[tuple[Any, ...]]]:
    found: dict[str, list[tuple[Any, ...]]] = {"out": [], "late": [], "all": []}
    for _ in range(batches):
        for sink, table in cluster.published(cluster.batch()).items():
            found[sink] += tuples(table)
    return {sink: sorted(lines, key=repr) for sink, lines in found.items()}


@settings(deadline=None, max_examples=30)
@given(batches=st.lists(rows, min_size=1, max_size=4), delay=st.integers(0, 20))
def test_lanes_on_two_workers_find_what_one_lane_finds(batches: list[list[Row]], delay: int) -> None:
    one = cluster_of(*batches, addresses=("a",), delay_us=delay)
    four = cluster_of(*batches, addresses=("a", "b", "b", "a"), delay_us=delay)

    assert everything(four, len(batches)) == everything(one, len(batches))


@settings(deadline=None, max_examples=30)
@given(batches=st.lists(rows, min_size=2, max_size=4), data=st.data())
def test_state_from_the_manifest_equals_state_from_the_cache(batches: list[list[Row]], data: st.DataObject) -> None:
    remembering, forgetting = (cluster_of(*batches, delay_us=15) for _ in range(2))

    for _ in batches:
        for address in data.draw(st.sets(st.sampled_from(["a", "b"]))):
            forgetting.start(address)
        kept, loaded = remembering.batch(), forgetting.batch()
        assert {s: tuples(t) for s, t in remembering.published(kept).items()} == {
            s: tuples(t) for s, t in forgetting.published(loaded).items()
        }
        assert [r.changes for r in kept.receipts] == [r.changes for r in loaded.receipts]


def second_batch_of_a_worker_that_forgot() -> tuple[Cluster, StageTask]:
    """A state task of lane 1, whose worker lost everything while the rows of lane 0 are still there."""
    cluster = cluster_of(ROWS, ROWS)
    cluster.batch()
    record = cluster.record()
    record.receipts += [cluster.run(task) for task in cluster.tasks(record, 0)]
    [_, task] = cluster.tasks(record, 1)
    cluster.start("b")
    return cluster, task


def test_a_worker_without_the_state_of_a_batch_that_is_not_durable_cannot_go_on() -> None:
    cluster, task = second_batch_of_a_worker_that_forgot()

    with pytest.raises(StateMissingError, match="b lacks state commit-1"):
        cluster.run(replace(task, base_at=None))


def test_state_is_loaded_only_from_the_very_commit_that_the_task_names() -> None:
    cluster, task = second_batch_of_a_worker_that_forgot()

    with pytest.raises(StateMissingError, match="is commit commit-1-1, not another"):
        cluster.run(replace(task, base_at=(cluster.head.seq, "another")))
    with pytest.raises(StateMissingError, match="is gone"):
        cluster.run(replace(task, base_at=(cluster.head.seq + 5, cluster.head.commit_id)))


def test_rows_of_a_task_that_ran_again_never_mix_with_those_of_its_first_run() -> None:
    cluster = cluster_of(ROWS)
    record = cluster.record()
    [source] = cluster.tasks(record, 0)
    first = cluster.run(source)
    record.receipts.append(first)
    consumer, other = cluster.tasks(record, 1)
    cluster.run(consumer)

    cluster.run(source)

    with pytest.raises(ExchangeLostError, match="another run"):
        cluster.run(other)


def test_a_retry_after_a_second_run_counts_every_row_once() -> None:
    cluster = cluster_of(ROWS)
    failed = cluster.record()
    [source] = cluster.tasks(failed, 0)
    failed.receipts.append(cluster.run(source))
    cluster.run(source)

    record = cluster.batch()

    assert sum(n for _, _, _, n, *_ in tuples(cluster.published(record)["out"])) == len(ROWS)


def test_the_output_of_a_worker_that_is_gone_is_lost() -> None:
    cluster = cluster_of(ROWS)
    record = cluster.record()
    record.receipts += [cluster.run(task) for task in cluster.tasks(record, 0)]
    _, consumer = cluster.tasks(record, 1)

    del cluster.network.workers["a"]

    with pytest.raises(ExchangeLostError, match="a does not answer"):
        cluster.run(consumer)


def test_each_worker_writes_one_object_per_batch_and_seals_what_ran_again_by_itself() -> None:
    cluster = cluster_of(ROWS)
    before = len(cluster.store.list("data/"))

    record = cluster.record()
    cluster.run_levels(record)

    assert unsealed(record.receipts) == ()
    assert len(cluster.store.list("data/")) - before == 2
    last = cluster.tasks(record, 1)[0]
    again = cluster.run(last)
    [own] = {s.segment.object for s in again.sealed if s.execution == again.execution.id}
    assert own not in {s.segment.object for receipt in record.receipts for s in receipt.sealed}
    assert len(cluster.store.list("data/")) - before == 3


def test_of_a_task_that_ran_twice_before_sealing_each_run_has_parts_of_its_own() -> None:
    cluster = cluster_of(ROWS, addresses=("a",))
    record = cluster.record()
    [source] = cluster.tasks(record, 0)
    first, second = cluster.run(source), cluster.run(source)

    record.receipts.append(second)
    [state] = cluster.tasks(record, 1)
    last = cluster.run(state)

    assert unsealed([first, last]) == unsealed([second, last]) == ()
    places = {s.execution: s.segment for s in last.sealed if s.name == "sink:all"}
    assert places[first.execution.id] != places[second.execution.id]


def test_what_is_published_from_memory_and_from_the_store_is_the_same() -> None:
    cluster = cluster_of(ROWS, [("a", 1, 100)])
    cluster.batch()
    record = cluster.batch()
    tasks = cluster.publications(record)

    cached = [cluster.network.workers[cluster.addresses[t.lane]].run(t) for t in tasks]
    for address in cluster.addresses:
        cluster.start(address)
    stored = [cluster.network.workers[cluster.addresses[t.lane]].run(t) for t in tasks]

    assert {t.sink for t in tasks} == {"out", "all"}
    for from_memory, from_store in zip(cached, stored, strict=True):
        assert isinstance(from_memory, PublishReceipt)
        assert isinstance(from_store, PublishReceipt)
        assert from_memory.table is not None
        assert from_memory.table.equals(from_store.table)
        assert from_memory.rows == from_store.rows > 0


def test_a_batch_may_be_published_twice() -> None:
    cluster = cluster_of(ROWS)
    record = cluster.batch()

    assert tuples(cluster.published(record)["all"]) == tuples(cluster.published(record)["all"])


def unlucky(frame: pd.DataFrame) -> pd.DataFrame:
    if (frame["value"] == 13).any():
        raise ValueError("13 brings bad luck")
    return frame


def test_a_failing_function_is_named_with_the_record_it_failed_on() -> None:
    fine, bad = [("a", n, n) for n in range(13)], [("b", n, n) for n in (99, 13, 98)]
    plan = MapBatches(child=frames(fine, bad), fn=unlucky, schema=SCHEMA, name="luck")
    cluster = Cluster(to_memory(out=totals(plan)))
    cluster.batch()

    with pytest.raises(UserFunctionError) as caught:
        cluster.run_levels(cluster.record())

    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.operator, again.batch, again.lane, again.position) == ("luck", 1, 0, "frames-0 offset 1")
    assert repr(again.__cause__) == "ValueError('13 brings bad luck')"
    assert "query q, batch 1, lane 0: luck failed at frames-0 offset 1: ValueError: 13 brings bad luck" in str(again)


class ColdModel:
    """Cannot be loaded here."""

    def __init__(self) -> None:
        raise FileNotFoundError("model.bin")

    def __call__(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame


def test_a_class_that_cannot_be_set_up_is_the_user_s_to_mend() -> None:
    plan = to_memory(out=MapBatches(child=frames(ROWS), fn=ColdModel, schema=SCHEMA, name="score"))

    with pytest.raises(UserFunctionError, match="query q: score cannot be set up on worker a") as caught:
        Cluster(plan, ("a",))

    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again.__cause__, FileNotFoundError)


def test_a_batch_without_rows_answers_for_every_lane() -> None:
    cluster = cluster_of([], [])

    record = cluster.batch()

    assert {(r.execution.level, r.execution.lane) for r in record.receipts} == {(0, 0), (1, 0), (1, 1)}
    assert all(isinstance(r, StageReceipt) and r.outputs == () for r in record.receipts)
    assert cluster.store.list("data/") == []


def test_a_worker_tells_why_it_cannot_read_the_checkpoint() -> None:
    cluster = cluster_of(ROWS)
    worker = cluster.network.workers["a"]
    assert worker.check_checkpoint() == ""

    cluster.store.put(JOB, b"something else")
    assert "holds another job" in worker.check_checkpoint()
    cluster.store.delete([JOB])
    assert "is not there" in worker.check_checkpoint()


def test_late_rows_are_counted_and_leave_the_stage() -> None:
    cluster = cluster_of([("a", 1, 50)], [("a", 1, 1), ("b", 2, 55)])
    cluster.batch()

    record = cluster.batch()

    assert sum(dict(r.late_rows).get("aggregate-0", 0) for r in record.receipts) == 1
    late = cluster.published(record)["late"]
    assert isinstance(late, pa.Table)
    assert [(r["key"], r["_operator"]) for r in late.to_pylist()] == [("a", "aggregate-0")]
