from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

import microstream as ms
from microstream.connectors.memory.source import MemorySource
from microstream.errors import PlanError
from microstream.frame.run import sort_result
from microstream.plan.nodes import Source


def node_of(frame: ms.StreamFrame) -> Source:
    assert isinstance(frame._node, Source)
    return frame._node


def kafka(**changed: Any) -> ms.StreamFrame:
    schema = {"id": "int64", "ts": "epoch[ms]", "note": "str"}
    return ms.read_kafka("bids", **{"bootstrap_servers": "k:9092", "schema": schema, "event_time": "ts", **changed})


def test_a_kafka_source_is_named_by_its_topics_and_never_lets_event_time_be_null() -> None:
    node = node_of(kafka(watermark="10s", idle_timeout=None, max_ahead="1h"))

    assert (node.name, node.spec.kind, node.spec.target) == ("bids", "kafka", "bids")
    assert (node.delay_us, node.idle_timeout_us, node.max_ahead_us) == (10_000_000, None, 3_600_000_000)
    assert not node.schema.field("ts").nullable
    assert node.schema.field("ts").metadata == {b"microstream": b"epoch[ms]"}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"schema": {"id": "int65", "ts": "epoch[ms]"}}, "int65"),
        ({"event_time": "tss"}, "Did you mean 'ts'"),
        ({"event_time": "id"}, "not a time"),
        ({"watermark": "soon"}, "not a duration"),
        ({"event_time": None, "watermark": "1s"}, "needs event_time"),
        ({"start": "yesterday"}, "yesterday"),
        ({"format": "avro"}, "avro"),
    ],
)
def test_a_wrong_kafka_source_fails_when_it_is_written(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(PlanError, match=says):
        kafka(**changed)


def test_what_never_ends_cannot_be_computed() -> None:
    with pytest.raises(PlanError, match="never ends"):
        kafka().compute()


def test_one_frame_is_cut_into_batches_in_order() -> None:
    frame = ms.from_pandas(pd.DataFrame({"n": range(5)}), batches=3)

    spec = node_of(frame).spec

    assert isinstance(spec, MemorySource)
    assert [table.column("n").to_pylist() for table in spec.tables] == [[0], [1, 2], [3, 4]]


def test_all_frames_together_decide_the_types() -> None:
    frames = [pd.DataFrame({"tags": [None]}), pd.DataFrame({"tags": [["a"]]})]

    assert ms.from_pandas(frames).dtypes.astype(str).tolist() == ["list<item: large_string>[pyarrow]"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ms.from_pandas([]), "at least one"),
        (lambda: ms.from_pandas(pd.DataFrame({"n": [1]}), batches=0), "at least 1"),
        (lambda: ms.from_pandas(pd.DataFrame({"n": [1]}), batches=1.5), "whole number"),  # type: ignore[arg-type]
        (lambda: ms.from_pandas(None), "neither a pandas frame"),  # type: ignore[arg-type]
        (lambda: ms.from_pandas(pd.DataFrame()), "no columns.*reset_index"),
        (lambda: ms.from_pandas([pd.DataFrame({"n": [1]}).set_index("n")]), "no columns.*reset_index"),
        (lambda: ms.from_pandas([pd.DataFrame({"n": [1]})], batches=2), "cut already"),
        (lambda: ms.from_pandas([pd.DataFrame({"n": [1]}), pd.DataFrame({"m": [1]})]), "same columns, but frame 0"),
        (lambda: ms.from_pandas(pd.DataFrame({"n": [object()]})), "'n'"),
        (lambda: ms.from_pandas(pd.DataFrame({0: [1]})), "must be text"),
        (lambda: ms.from_pandas(pd.DataFrame({"t": [pd.NaT]}), event_time="x"), "no column 'x'"),
        (
            lambda: ms.from_pandas([pd.DataFrame({"t": pd.to_datetime(["2026-01-01", None])})] * 2, event_time="t"),
            "null in row 1 of frame 0",
        ),
    ],
)
def test_a_wrong_pandas_source_fails_when_it_is_written(make: Any, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        make()


def test_a_sink_of_kafka_takes_the_only_cluster_of_the_query() -> None:
    assert kafka().to_kafka("out")._node.spec.bootstrap_servers == "k:9092"
    with pytest.raises(PlanError, match="reads no Kafka topic"):
        ms.from_pandas(pd.DataFrame({"n": [1]})).to_kafka("out")
    with pytest.raises(PlanError, match="a:1, k:9092"):
        ms.concat([kafka(), kafka(bootstrap_servers="a:1")]).to_kafka("out")


def test_a_durable_sink_needs_a_checkpoint() -> None:
    with pytest.raises(PlanError, match="needs checkpoint="):
        kafka().to_kafka("out").start()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"trigger": "often"}, "not a duration"),
        ({"trigger": "available_now"}, r"or ms\.available_now\(\)"),
        ({"lanes": 0}, "at least 1"),
        ({"max_span": "long"}, "max_span"),
    ],
)
def test_a_wrong_start_is_refused_before_anything_runs(arguments: dict[str, Any], says: str) -> None:
    sink = ms.from_pandas(pd.DataFrame({"n": [1]})).to_memory()

    with pytest.raises(PlanError, match=says):
        ms.start(sink, **arguments)


def test_what_is_no_sink_cannot_be_started() -> None:
    with pytest.raises(PlanError, match="give sinks"):
        ms.start(kafka())  # type: ignore[arg-type]


def test_rows_with_lists_can_be_sorted() -> None:
    frame = ms.from_pandas(pd.DataFrame({"tags": [["b"], ["a"]]}))

    found = sort_result(frame.compute().iloc[::-1], frame._node)

    assert found["tags"].map(list).tolist() == [["a"], ["b"]]


def test_triggers_are_values() -> None:
    assert ms.every("2s").interval_us == 2_000_000
    assert ms.continuously() == ms.continuously()
    assert ms.available_now() == ms.available_now()
    assert ms.tumbling("1min", offset="-5s").offset_us == -5_000_000
