"""User functions that raise or return something else than declared: which, where, and nothing is lost by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from clicks import CLOSING, append, clicks, numbers, published_sums, run, sums, sums_of, topic, whole
from distributed import Client

import microstream as ms
from microstream.testing.kafka import Broker

pytestmark = pytest.mark.broker

UNLUCKY = 13
ROW: dict[str, Any] = {"user": "str", "n": "int64"}


def double(batch: pd.DataFrame) -> pd.Series:
    return batch["n"] * 2


def double_but_not_13(batch: pd.DataFrame) -> pd.Series:
    if (batch["n"] == UNLUCKY).any():
        raise ArithmeticError("13 cannot be doubled")
    return batch["n"] * 2


def drop_column(batch: pd.DataFrame) -> pd.DataFrame:
    return batch[["user"]] if (batch["n"] == UNLUCKY).any() else batch[["user", "n"]]


def add_column(batch: pd.DataFrame) -> pd.DataFrame:
    return batch[["user", "n"]].assign(more=1)


def no_frame(batch: pd.DataFrame) -> Any:
    return None


class Broken:
    def __init__(self) -> None:
        raise OSError("no weights")

    def __call__(self, batch: pd.DataFrame) -> pd.DataFrame:
        return batch


def test_a_function_that_raises_is_named_with_batch_lane_and_the_row(
    broker: Broker, client: Client, tmp_path: Path
) -> None:
    source, sink = topic(broker), topic(broker, "out")
    append(broker, source, range(10))
    copied = clicks(broker, source).assign(twice=double_but_not_13).to_kafka(sink)
    run(copied, client, tmp_path / "ck", name="copy", lanes=1)
    append(broker, source, range(10, 20))

    with pytest.raises(ms.UserFunctionError) as caught:
        run(copied, client, tmp_path / "ck", name="copy")

    error = caught.value
    assert (error.operator, error.batch, error.lane) == ("twice", 1, 0)
    assert error.position == f"{source}-0 offset {UNLUCKY}"
    assert isinstance(error.__cause__, ArithmeticError)
    assert str(error) == (
        f"query copy, batch 1, lane 0: twice failed at {source}-0 offset {UNLUCKY}: ArithmeticError: 13 cannot be "
        "doubled. Nothing of this batch was committed: mend the query and start it again, or pass the record "
        f"with skip=[('{source}-0', {UNLUCKY})]."
    )


def test_what_ended_the_query_is_in_its_handle_and_raised_by_whoever_waits_for_it(
    broker: Broker, client: Client
) -> None:
    source = topic(broker)
    rows = clicks(broker, source).assign(twice=double_but_not_13)
    query = ms.start(rows.to_memory(name="rows"), trigger=ms.continuously(), client=client)
    append(broker, source, [UNLUCKY])

    with pytest.raises(ms.UserFunctionError) as waited:
        query.await_termination(60)

    assert query.exception is waited.value
    assert not query.is_active
    assert query.status == f"failed: {waited.value}"
    for ask in (query.process_all_available, query.stop, query.await_termination):
        with pytest.raises(ms.UserFunctionError):
            ask()


def test_after_mending_the_function_nothing_is_lost_and_nothing_twice(
    broker: Broker, client: Client, tmp_path: Path
) -> None:
    source, sink = topic(broker), topic(broker, "out")

    def totals(fn: Callable[[pd.DataFrame], pd.Series]) -> ms.StreamSink:
        return sums(clicks(broker, source).assign(twice=fn), "twice").to_kafka(sink, key="user")

    append(broker, source, range(10))
    run(totals(double_but_not_13), client, tmp_path / "ck")
    append(broker, source, [*range(10, 20), CLOSING])
    with pytest.raises(ms.UserFunctionError):
        run(totals(double_but_not_13), client, tmp_path / "ck")
    assert whole(tmp_path / "ck").batch == 0

    run(totals(double), client, tmp_path / "ck")

    assert published_sums(broker, sink) == sums_of(range(20), times=2)


@pytest.mark.parametrize(
    ("fn", "at", "said"),
    [
        (drop_column, 3, "wrong columns (missing: n; not declared: none). Expected exactly: user, n"),
        (add_column, 0, "wrong columns (missing: none; not declared: more). Expected exactly: user, n"),
        (no_frame, 0, "returned NoneType. Return a pandas DataFrame or an Arrow table"),
    ],
)
def test_a_function_that_returns_other_columns_is_told_which_and_for_which_row(
    broker: Broker, client: Client, tmp_path: Path, fn: Callable[[pd.DataFrame], Any], at: int, said: str
) -> None:
    source, sink = topic(broker), topic(broker, "out")
    append(broker, source, range(10, 20))
    rows = clicks(broker, source).map_batches(fn, schema=ROW)

    with pytest.raises(ms.UserFunctionError) as caught:
        run(rows.to_kafka(sink), client, tmp_path / "ck", name="shape", lanes=1)

    error = caught.value
    assert (error.batch, error.lane) == (0, 0)
    assert fn.__name__ in error.operator
    assert error.position == f"{source}-0 offset {at}"
    assert said in str(error)
    assert ".." not in str(error)
    assert numbers(broker, sink) == []
    assert whole(tmp_path / "ck").batch == -1


def test_a_row_whose_value_does_not_fit_the_declared_type_is_named(broker: Broker, client: Client) -> None:
    source = topic(broker)
    append(broker, source, range(10, 20))

    def tell(batch: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"user": batch["user"], "n": [f"n{n}" if n == UNLUCKY else n for n in batch["n"]]})

    with pytest.raises(ms.UserFunctionError) as caught:
        run(clicks(broker, source).map_batches(tell, schema=ROW).to_memory(name="rows"), client, lanes=1)

    assert caught.value.position == f"{source}-0 offset 3"
    assert "n13" in str(caught.value)


class Model:
    """Scores users, but cannot stand one of the rows."""

    def __call__(self, batch: pd.DataFrame) -> pd.DataFrame:
        if (batch["n"] == 117).any():
            raise FloatingPointError("the score of 117 is not finite")
        return batch[["user", "n"]].assign(score=batch["n"] / 2)


def test_a_model_that_fails_on_row_17_of_a_batch_is_told_with_the_offset_of_its_record(
    broker: Broker, client: Client, tmp_path: Path
) -> None:
    source, sink = topic(broker), topic(broker, "out")
    append(broker, source, range(100))
    scored = clicks(broker, source).map_batches(Model, schema=ROW | {"score": "float64"}).to_kafka(sink)
    run(scored, client, tmp_path / "ck", name="scores")
    append(broker, source, range(100, 150))

    with pytest.raises(ms.UserFunctionError) as caught:
        run(scored, client, tmp_path / "ck", name="scores")
    passing = clicks(broker, source, skip=[(f"{source}-0", 117)]).map_batches(Model, schema=ROW | {"score": "float64"})
    run(passing.to_kafka(sink), client, tmp_path / "ck", name="scores")

    error = caught.value
    assert (error.batch, error.position) == (1, f"{source}-0 offset 117")
    for part in ("query scores, batch 1", "Model", "the score of 117 is not finite", f"skip=[('{source}-0', 117)]"):
        assert part in str(error)
    assert numbers(broker, sink) == [n for n in range(150) if n != 117]


def test_a_class_that_cannot_be_set_up_is_an_error_of_its_author(broker: Broker, client: Client) -> None:
    source = topic(broker)
    append(broker, source, range(3))

    with pytest.raises(ms.UserFunctionError, match="OSError: no weights. Mend its __init__"):
        run(clicks(broker, source).map_batches(Broken, schema=ROW).to_memory(name="rows"), client)
