from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from inline_query import run

import microstream as ms
from microstream.checkpoint.commit import head
from microstream.checkpoint.local import LocalStore
from microstream.checkpoint.store import AlreadyExistsError
from microstream.errors import FencedError
from microstream.testing.kafka import Broker, consume_all, unique

pytestmark = pytest.mark.broker


class CommittedByAnother(LocalStore):
    """A store in which another driver always was a moment earlier with the first batch."""

    def create(self, key: str, data: bytes) -> None:
        if key.startswith("manifest/") and not key.endswith(f"{0:020d}.json.zst"):
            raise AlreadyExistsError(f"{key} exists")
        super().create(key, data)

    def get(self, key: str) -> bytes:
        return super().get(key if not key.endswith(f"{1:020d}.json.zst") else f"manifest/{0:020d}.json.zst")


def sink(broker: Broker, topic: str, delivery: str = "at_least_once") -> ms.StreamSink:
    frames = [pd.DataFrame({"n": np.arange(start, start + 3)}) for start in (0, 3, 6)]
    return ms.from_pandas(frames).to_kafka(
        topic,
        bootstrap_servers=broker.bootstrap_servers,
        delivery=delivery,  # type: ignore[arg-type]
        name="out",
    )


def numbers(broker: Broker, topic: str) -> list[int]:
    return sorted(json.loads(each.value or b"{}")["n"] for each in consume_all(broker, topic))


def test_rows_go_out_while_they_are_computed_and_none_is_left_to_publish(broker: Broker, tmp_path: Path) -> None:
    topic = unique("eager")
    broker.create_topic(topic)

    run(sink(broker, topic), folder=tmp_path)

    assert numbers(broker, topic) == list(range(9))
    manifest = head(LocalStore(tmp_path))
    assert manifest is not None
    assert (manifest.sinks[0].lanes, manifest.sinks[0].published_through) == (0, 2)
    assert LocalStore(tmp_path).list("data/") == []


def test_rows_of_a_batch_that_never_commits_remain(broker: Broker, tmp_path: Path) -> None:
    topic = unique("eager")
    broker.create_topic(topic)

    with pytest.raises((FencedError, ms.CheckpointError)):
        run(sink(broker, topic), folder=tmp_path, store=CommittedByAnother(tmp_path))

    assert numbers(broker, topic)[:3] == [0, 1, 2]


def test_an_explanation_says_what_each_delivery_guarantees() -> None:
    frame = ms.from_pandas(pd.DataFrame({"n": [1]}))
    for delivery, says in (("exactly_once", ", exactly once"), ("at_least_once", ", at least once: rows come as soon")):
        out = frame.to_kafka("t", bootstrap_servers="b:1", delivery=delivery)  # type: ignore[arg-type]

        assert f"-> sink t: kafka t json{says}" in out.explain()
