"""A Kafka for demos and wiring tests that needs nothing but confluent-kafka: librdkafka's in-process cluster.

It shows aborted rows to read_committed readers, drops transactional offsets and fences nobody, so nothing that is
promised about exactly-once output can be seen on it: use `microstream.testing.kafka` for that. It keeps about 5 MB
per partition and forgets everything at its end.
"""

from __future__ import annotations

from types import TracebackType

from confluent_kafka import Producer

__all__ = ["InProcessBroker"]

TIMEOUT_S = 10.0
QUIET = 2
"""Syslog level of librdkafka's messages: only what ends the client. At 5 it announces that brokers are simulated."""


class InProcessBroker:
    """One simulated broker on a free port of this machine; a context manager.

    Examples
    --------
    >>> with InProcessBroker() as broker:
    ...     broker.create_topic("bids")
    ...     broker.bootstrap_servers.split(":")[0]
    '127.0.0.1'
    """

    def __init__(self) -> None:
        self._host: Producer | None = Producer({"test.mock.num.brokers": 1, "log_level": QUIET})
        [broker] = self._host.list_topics(timeout=TIMEOUT_S).brokers.values()
        self.bootstrap_servers = f"{broker.host}:{broker.port}"

    def __enter__(self) -> InProcessBroker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def create_topic(self, name: str) -> None:
        """Create topic `name` with 4 partitions, which the cluster does whenever somebody asks for a topic."""
        if self._host is None:
            raise RuntimeError("this broker is closed")
        self._host.list_topics(name, timeout=TIMEOUT_S)

    def close(self) -> None:
        """End the cluster, which lives as long as its first client."""
        self._host = None
