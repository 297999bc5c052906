from __future__ import annotations

import pickle

import pandas as pd
import pytest

from microstream.connectors.callback.sink import Batch, CallbackSink
from microstream.errors import UserFunctionError, packed, unpacked
from microstream.testing.connectors import OutputContract, open_writer, publish


class Upserts:
    """A table whose rows are found by batch and lane: writing them again changes nothing."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, int, int], list[int]] = {}

    def connector(self) -> CallbackSink:
        return CallbackSink(fn=self.write)

    def write(self, frame: pd.DataFrame, batch: Batch) -> None:
        self.rows[batch.job, batch.sink, batch.lane, batch.id] = frame["n"].tolist()

    def published(self) -> list[int]:
        return sorted(n for found in self.rows.values() for n in found)


class TestCallbackSink(OutputContract):
    @pytest.fixture
    def harness(self) -> Upserts:
        return Upserts()

    def test_what_is_done_again_without_a_change_is_exactly_once(self, harness: Upserts) -> None:
        writer = open_writer(harness)

        publish(writer, 0, [1, 2])
        publish(writer, 0, [1, 2])

        assert harness.published() == [1, 2]

    def test_lanes_and_sinks_are_told_apart(self, harness: Upserts) -> None:
        for number, (lane, sink) in enumerate([(0, "a"), (0, "b"), (1, "a"), (1, "b")]):
            publish(open_writer(harness, lane=lane, sink=sink), 0, [number], lane=lane, sink=sink)

        assert harness.published() == [0, 1, 2, 3]


def refuse(frame: pd.DataFrame, batch: Batch) -> None:
    raise KeyError("no such table")


def test_an_error_names_sink_batch_lane_and_function_and_survives_the_way_to_the_driver() -> None:
    class Refusing(Upserts):
        def connector(self) -> CallbackSink:
            return CallbackSink(fn=refuse)

    with pytest.raises(UserFunctionError) as caught:
        publish(open_writer(Refusing(), lane=2), 7, [1], lane=2)
    arrived = unpacked(packed(caught.value))

    assert "sink 'out', batch 7, lane 2" in str(arrived)
    assert "refuse failed: KeyError: 'no such table'" in str(arrived)
    assert (arrived.operator, arrived.batch, arrived.lane) == ("out", 7, 2)
    assert isinstance(arrived.__cause__, KeyError)


def test_the_sink_can_be_shipped() -> None:
    sink = CallbackSink(fn=refuse)

    assert pickle.loads(pickle.dumps(sink)) == sink
