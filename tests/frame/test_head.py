from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import given, settings

import microstream as ms
from microstream.errors import MicrostreamError, PlanError, UserFunctionError
from microstream.testing.inprocess import InProcessBroker
from microstream.testing.kafka import Broker, produce, unique

SCHEMA = {"n": "int64", "at": "epoch[ms]"}


@given(numbers=st.lists(st.integers(-5, 5), max_size=10), batches=st.integers(1, 4), n=st.integers(0, 12))
@settings(deadline=None, max_examples=12)
def test_the_head_of_finite_input_is_the_head_in_pandas(numbers: list[int], batches: int, n: int) -> None:
    data = pd.DataFrame({"n": pd.array(numbers, dtype="int64")})

    def steps(frame: Any) -> Any:
        return frame[frame["n"] != 0].assign(twice=lambda f: f["n"] * 2)

    found = steps(ms.from_pandas(data, batches=batches)).head(n)

    pd.testing.assert_frame_equal(found, steps(data).head(n).reset_index(drop=True))


def test_five_rows_are_the_default() -> None:
    assert ms.from_pandas(pd.DataFrame({"n": range(9)}), batches=3).head()["n"].tolist() == [0, 1, 2, 3, 4]


def test_nothing_is_run_for_no_rows() -> None:
    def refuse(frame: pd.DataFrame) -> pd.DataFrame:
        raise ArithmeticError("not to be called")

    frame = ms.from_pandas(pd.DataFrame({"n": [1]})).map_batches(refuse, schema={"n": "int64"})

    assert frame.head(0).dtypes.astype(str).to_dict() == {"n": "int64"}


def test_a_function_that_fails_before_there_are_enough_rows_is_an_error() -> None:
    def positive(row: dict[str, Any]) -> dict[str, Any]:
        if row["n"] < 0:
            raise ValueError("negative")
        return row

    data = [pd.DataFrame({"n": [n]}) for n in (1, 2, -3)]
    frame = ms.from_pandas(data).map_rows(positive, schema={"n": "int64"})

    with pytest.raises(UserFunctionError, match="negative"):
        frame.head(3)


def test_windows_of_finite_input_close() -> None:
    data = pd.DataFrame({"n": [1, 2], "at": pd.date_range("2026-01-01", periods=2, freq="1s")})

    assert ms.from_pandas(data, event_time="at").window(ms.tumbling("1min")).size().head()["size"].tolist() == [2]


def endless(broker: Broker | InProcessBroker, topic: str, **options: Any) -> ms.StreamFrame:
    return ms.read_kafka(
        topic,
        bootstrap_servers=broker.bootstrap_servers,
        schema=SCHEMA,
        event_time="at",
        watermark="1s",
        **options,
    )


@pytest.fixture
def topic(broker: Broker) -> str:
    made = unique("head")
    broker.create_topic(made, partitions=2)
    return made


def append(broker: Broker, topic: str, partition: int, *numbers: int) -> None:
    produce(broker, topic, [b'{"n": %d, "at": %d}' % (n, 1_000 * n) for n in numbers], partition=partition)


@pytest.mark.broker
def test_the_head_of_an_endless_source_begins_with_its_earliest_record(broker: Broker, topic: str) -> None:
    append(broker, topic, 0, *range(20))

    assert endless(broker, topic).query("n % 2 == 1").head(3)["n"].tolist() == [1, 3, 5]


@pytest.mark.broker
def test_an_endless_source_ends_like_a_finite_one_so_that_windows_close(broker: Broker, topic: str) -> None:
    append(broker, topic, 0, 1, 2, 70)
    append(broker, topic, 1, 3)

    found = endless(broker, topic).window(ms.tumbling("1min")).agg(n=("n", "sum")).head()

    assert found["n"].tolist() == [6, 70]


@pytest.mark.broker
def test_rows_that_come_while_it_waits_are_seen(broker: Broker, topic: str) -> None:
    frame = endless(broker, topic)
    writer = threading.Timer(0.3, append, (broker, topic, 1, 7))
    writer.start()

    found = frame.head(1)

    writer.join()
    assert found["n"].tolist() == [7]


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "5"])
def test_a_number_of_rows_is_needed(wrong: Any) -> None:
    with pytest.raises(PlanError, match="number of rows"):
        ms.from_pandas(pd.DataFrame({"n": [1]})).head(wrong)


def test_a_source_that_does_not_answer_is_an_error_after_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microstream.runtime.preview.WAIT_S", 0.5)
    frame = ms.read_kafka("t", bootstrap_servers="127.0.0.1:1", schema={"n": "int64"}, config={"log_level": 0})
    look: Callable[[], object] = frame.head

    with pytest.raises(MicrostreamError):
        look()
