from __future__ import annotations

import logging

from microstream.connectors.kafka.chatter import EVERY_S, MOST_KINDS, Seldom, client_log
from microstream.connectors.kafka.client import Cluster

SAID = "[thrd:{broker}/bootstrap]: Connect to {broker} failed: Connection refused (after {ms}ms in state CONNECT)"


def line(at_s: float, broker: str = "b1:9092", ms: int = 0, client: int = 1) -> logging.LogRecord:
    args = ("FAIL", f"rdkafka#consumer-{client}", SAID.format(broker=broker, ms=ms))
    record = logging.LogRecord("microstream.kafka.client", logging.ERROR, "", 0, "%s [%s] %s", args, None)
    record.created = at_s
    return record


def test_a_broker_that_is_away_is_told_once_in_a_while_and_not_by_every_client() -> None:
    seldom = Seldom()

    shown = [seldom.filter(line(0.1 * n, ms=n, client=n % 16)) for n in range(100)]
    later = line(EVERY_S)

    assert shown == [True] + 99 * [False]
    assert seldom.filter(later)
    assert later.getMessage().endswith("(99 like it not shown)")


def test_another_broker_is_told_apart() -> None:
    seldom = Seldom()

    assert seldom.filter(line(0, "b1:9092"))
    assert seldom.filter(line(0, "b2:9092"))
    assert not seldom.filter(line(1, "b2:9092"))


def test_what_is_remembered_is_bounded() -> None:
    seldom = Seldom()

    for n in range(3 * MOST_KINDS):
        assert seldom.filter(line(0, f"b{n}:9092"))

    assert len(seldom._shown) <= MOST_KINDS


def test_lines_of_a_client_arrive_seldom_at_our_logger(log_records: list[logging.LogRecord]) -> None:
    heard = Count()
    client_log().filters.insert(0, heard)
    consumer = Cluster(bootstrap_servers="127.0.0.1:7", config=(("reconnect.backoff.max.ms", 50),)).consumer({})
    try:
        while heard.refused < 5:
            consumer.poll(0.1)
    finally:
        consumer.close()
        client_log().removeFilter(heard)

    refused = [record for record in log_records if "Connection refused" in record.getMessage()]
    assert len(refused) == 1
    assert refused[0].name.startswith("microstream.kafka")


class Count(logging.Filter):
    """Hears everything, and holds nothing back."""

    refused = 0

    def filter(self, record: logging.LogRecord) -> bool:
        self.refused += "Connection refused" in record.getMessage()
        return True
