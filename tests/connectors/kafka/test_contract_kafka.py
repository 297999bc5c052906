"""Kafka passes the suites that ship for every connector."""

from __future__ import annotations

import pytest
from harness import KafkaSinkHarness, KafkaSourceHarness

from microstream.testing.connectors import SinkContract, SourceContract
from microstream.testing.kafka import Broker

pytestmark = pytest.mark.broker


class TestKafkaSource(SourceContract):
    @pytest.fixture
    def harness(self, broker: Broker) -> KafkaSourceHarness:
        return KafkaSourceHarness(broker)


class TestKafkaSink(SinkContract):
    @pytest.fixture
    def harness(self, broker: Broker) -> KafkaSinkHarness:
        return KafkaSinkHarness(broker)
