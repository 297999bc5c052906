"""Two drivers on one checkpoint: the second is refused, or takes over, and then the first stops for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clicks import append, clicks, numbers, run, topic, until, whole
from distributed import Client

import microstream as ms
from microstream.testing.kafka import Broker

pytestmark = pytest.mark.broker

PROGRAM = Path(__file__).with_name("driver.py")


class Rival:
    """Another process that copies `source` to `sink` on `checkpoint`."""

    def __init__(self, broker: Broker, source: str, sink: str, checkpoint: Path, scheduler: str) -> None:
        command = [sys.executable, str(PROGRAM), "--bootstrap", broker.bootstrap_servers, "--source", source]
        command += ["--sink", sink, "--checkpoint", str(checkpoint), "--scheduler", scheduler]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
            env={**os.environ, "DASK_MICROSTREAM__HEARTBEAT": "1s"},
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "started\n", self.last_words()

    def last_words(self) -> str:
        """What it wrote to stderr, once it has ended (standard input is closed: it is asked to stop)."""
        _, words = self.process.communicate(timeout=60)
        return str(words)


@pytest.fixture
def site(broker: Broker, tmp_path: Path) -> tuple[str, str, Path]:
    """Source and sink topics, and a checkpoint."""
    return topic(broker), topic(broker, "out"), tmp_path / "ck"


@pytest.fixture
def rival(broker: Broker, client: Client, site: tuple[str, str, Path]) -> Iterator[Rival]:
    running = Rival(broker, *site, client.scheduler.address)
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()


def test_a_second_driver_is_refused_by_the_name_of_the_first_which_goes_on(
    broker: Broker, client: Client, site: tuple[str, str, Path], rival: Rival
) -> None:
    source, sink, checkpoint = site
    append(broker, source, range(5))
    until(lambda: len(numbers(broker, sink)) == 5, "the first driver to publish")

    with pytest.raises(ms.CheckpointError) as caught:
        run(clicks(broker, source).to_kafka(sink), client, checkpoint, name="second")
    append(broker, source, range(5, 10))
    until(lambda: len(numbers(broker, sink)) == 10, "the first driver to go on")

    assert f"query second: process {rival.process.pid} on " in str(caught.value)
    assert f"runs a query on checkpoint {checkpoint}. Stop it first, or pass takeover=True" in str(caught.value)
    assert "Nothing was changed." in str(caught.value)
    assert "Error" not in rival.last_words()
    assert rival.process.returncode == 0
    assert whole(checkpoint).epoch == 1


def test_a_second_query_of_the_same_process_is_refused_too(
    broker: Broker, client: Client, site: tuple[str, str, Path]
) -> None:
    source, sink, checkpoint = site
    copied = clicks(broker, source).to_kafka(sink)
    first = ms.start(copied, name="first", checkpoint=str(checkpoint), trigger=ms.continuously(), client=client)

    with pytest.raises(ms.CheckpointError, match=f"process {os.getpid()} on .* runs a query on checkpoint"):
        run(copied, client, checkpoint, name="second")

    assert first.is_active
    first.stop()


def test_a_driver_that_takes_over_fences_the_first_and_nothing_is_published_twice(
    broker: Broker, client: Client, site: tuple[str, str, Path], rival: Rival
) -> None:
    source, sink, checkpoint = site
    append(broker, source, range(5))
    until(lambda: len(numbers(broker, sink)) == 5, "the first driver to publish")

    query = ms.start(
        clicks(broker, source).to_kafka(sink),
        name="second",
        checkpoint=str(checkpoint),
        trigger=ms.continuously(),
        client=client,
        takeover=True,
    )
    append(broker, source, range(5, 10))
    query.process_all_available()
    until(lambda: rival.process.poll() is not None, "the first driver to stop")

    words = rival.last_words()
    assert rival.process.returncode == 1
    assert "FencedError: query copy: " in words
    assert "This driver stops" in words
    assert numbers(broker, sink) == list(range(10))
    query.stop()
    assert whole(checkpoint).epoch == 2


def test_the_checkpoint_of_a_driver_that_was_killed_is_taken_over_without_asking(
    broker: Broker, client: Client, site: tuple[str, str, Path], rival: Rival
) -> None:
    source, sink, checkpoint = site
    append(broker, source, range(5))
    until(lambda: len(numbers(broker, sink)) == 5, "the first driver to publish")
    rival.process.kill()
    rival.process.wait()
    append(broker, source, range(5, 10))

    run(clicks(broker, source).to_kafka(sink), client, checkpoint)

    assert numbers(broker, sink) == list(range(10))
