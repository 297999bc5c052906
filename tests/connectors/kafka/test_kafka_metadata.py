from __future__ import annotations

import pytest

from microstream.connectors.kafka.client import Cluster
from microstream.connectors.kafka.metadata import is_in_process
from microstream.connectors.kafka.probe import KafkaProbe
from microstream.errors import ConnectorError
from microstream.testing.inprocess import InProcessBroker
from microstream.testing.kafka import Broker


def test_the_in_process_cluster_is_asked_for_its_partitions_in_its_own_way() -> None:
    with InProcessBroker() as broker:
        broker.create_topic("bids")
        probe = KafkaProbe(Cluster(bootstrap_servers=broker.bootstrap_servers), ("bids",))

        bounds = probe.bounds()

        probe.close()
    assert {name: (each.low, each.end) for name, each in bounds.items()} == {f"bids-{n}": (0, 0) for n in range(4)}


def test_a_topic_that_the_in_process_cluster_does_not_have_is_missed() -> None:
    with InProcessBroker() as broker:
        broker.create_topic("bids")
        probe = KafkaProbe(Cluster(bootstrap_servers=broker.bootstrap_servers), ("bdis",))

        with pytest.raises(ConnectorError, match=r"no topic 'bdis'. Topics there: bids"):
            probe.bounds()


@pytest.mark.broker
def test_a_real_cluster_is_not_taken_for_one_in_process(broker: Broker) -> None:
    admin = Cluster(bootstrap_servers=broker.bootstrap_servers).admin()

    found = is_in_process(admin.list_topics(timeout=10))

    assert not found
