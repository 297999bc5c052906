"""What tests of several parts share: Kafka brokers for the whole session, where they can be had, and log lines."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from microstream.testing.kafka import Broker, NoBrokerError


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """One real broker; without it the test is skipped, but fails where CI=true."""
    with _start(own=False) as running:
        yield running


@pytest.fixture(scope="session")
def mortal_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """A broker that the test may stop and kill, and must leave running."""
    shared: Broker = request.getfixturevalue("broker")
    if shared.started_here:
        yield shared
    else:
        with _start(own=True) as running:
            yield running


def _start(*, own: bool) -> Broker:
    try:
        return Broker(own=own)
    except NoBrokerError as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


class _Kept(logging.Handler):
    """No StreamHandler, as pytest's own is: those are muted where Dask's logger has them, while a cluster runs."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def log_records() -> Iterator[list[logging.LogRecord]]:
    """What microstream's loggers write during the test, warnings and worse."""
    kept, logger = _Kept(), logging.getLogger("microstream")
    logger.addHandler(kept)
    yield kept.records
    logger.removeHandler(kept)
