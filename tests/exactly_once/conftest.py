"""How much chaos: a little in every run, all of it with MICROSTREAM_CHAOS=full."""

from __future__ import annotations

import os

import pytest
from bids import PARTITIONS, Bids
from chaos import FULL, Scale

from microstream.testing.kafka import Broker, unique


@pytest.fixture(scope="session")
def scale() -> Scale:
    seed = int(os.environ.get("MICROSTREAM_CHAOS_SEED", "1"))
    if FULL:
        return Scale(
            bids=Bids(count=2_000_000),
            driver_kills=30,
            worker_kills=30,
            broker_restarts=3,
            second_drivers=5,
            slice_records=10_000,
            seed=seed,
        )
    return Scale(
        bids=Bids(count=100_000),
        driver_kills=3,
        worker_kills=3,
        broker_restarts=2,
        second_drivers=3,
        slice_records=3_000,
        seed=seed,
    )


@pytest.fixture(scope="session")
def filled_topic(broker: Broker, scale: Scale) -> str:
    """A topic that holds all bids and their end."""
    topic = unique("bids")
    broker.create_topic(topic, partitions=PARTITIONS)
    scale.bids.produce(broker, topic, 0, scale.bids.count)
    scale.bids.produce_end(broker, topic)
    return topic
