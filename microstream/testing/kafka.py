"""A real Kafka for tests: Apache's own jars under Java, fetched once by Maven.

librdkafka's mock cluster shows aborted rows to read_committed readers and fences nobody, so what is promised about
exactly-once output can only be tested against a broker. One node starts in about four seconds and takes 400 MB.

Environment: `MICROSTREAM_TEST_KAFKA` names a broker that runs already; `MICROSTREAM_KAFKA_HOME` the folder of the
jars (default `~/.cache/microstream/kafka-4.1.0`).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from microstream.errors import ConnectorError

__all__ = ["Broker", "NoBrokerError", "Stored", "consume_all", "produce", "unique", "wait_until"]

KAFKA_VERSION = "4.1.0"
READY_S = 60.0
JAVA = (
    "-Xmx1g",
    "-Xms256m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
"""A broker of tests lives for minutes: Java's optimising compiler would take a core for the first of them, and repay it
later. On two cores that was the greatest part of the latency that was measured."""
SERVER = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners={listeners},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={listeners}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,\
SASL_SSL:SASL_SSL
log.dirs={data}
log.retention.ms=-1
log.retention.check.interval.ms=1000
log.cleaner.backoff.ms=200
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""
"""Event times of test data are often years old: with the usual retention the broker would delete it at once."""

POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
  <groupId>microstream</groupId><artifactId>kafka-jars</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>{version}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId>
      <version>{version}</version></dependency>
  </dependencies>
</project>
"""


class NoBrokerError(ConnectorError):
    """No broker can be started here; the message is one line that says what is missing."""


class Broker:
    """One Kafka node, given by `MICROSTREAM_TEST_KAFKA` or started by this process; a context manager.

    Parameters
    ----------
    own
        Start one even if one is given.
    port
        Of localhost, where an own one answers to PLAINTEXT; None: one that is free.
    protocols
        Security protocols at which an own one listens besides PLAINTEXT: "SASL_PLAINTEXT", "SASL_SSL", "SSL".
    settings
        Further lines of an own one's `server.properties`: certificates, users, quotas.

    Attributes
    ----------
    bootstrap_servers
        Where it answers to PLAINTEXT.
    addresses
        Security protocol -> where an own one answers to it.

    Notes
    -----
    `stop`, `kill`, `pause` and their opposites keep data and port, and need a broker that was started here
    (`started_here`).

    Raises
    ------
    NoBrokerError
        No broker was given, and Java, or Maven with access to its repository, is missing.
    """

    def __init__(
        self,
        *,
        own: bool = False,
        port: int | None = None,
        protocols: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        given = None if own else os.environ.get("MICROSTREAM_TEST_KAFKA")
        self.started_here = given is None
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self.addresses: Mapping[str, str] = {}
        if given is not None:
            self.bootstrap_servers = given
            self._await_answer()
            return
        self._jars = _jars()
        controller, plain, *others = _free_ports(2 + len(protocols))
        ports = [port or plain, *others]
        spoken = ("PLAINTEXT", *protocols)
        self.addresses = {name: f"127.0.0.1:{port}" for name, port in zip(spoken, ports, strict=True)}
        self.bootstrap_servers = self.addresses["PLAINTEXT"]
        self._folder = Path(tempfile.mkdtemp(prefix="microstream-kafka-"))
        self._settings = self._folder / "server.properties"
        data = self._folder / "data"
        listeners = ",".join(f"{name}://{address}" for name, address in self.addresses.items())
        lines = [SERVER.format(listeners=listeners, controller=controller, data=data)]
        lines += [f"{name}={value}\n" for name, value in (settings or {}).items()]
        self._settings.write_text("".join(lines))
        try:
            cluster = uuid.uuid4().hex[:22]
            _run([*self._java("kafka.tools.StorageTool"), "format", "-t", cluster, "-c", str(self._settings)])
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Broker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Create topic `name` and wait until it can be used; `config` are topic settings."""
        keep = {"retention.ms": "-1", **(config or {})}
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=keep)
        admin = self._admin()
        admin.create_topics([topic], operation_timeout=30)[name].result(30)
        wait_until(lambda: _answers(admin, name, partitions), f"all partitions of {name}")

    def delete_topic(self, name: str) -> None:
        """Delete topic `name` and wait until the broker no longer lists it."""
        admin = self._admin()
        admin.delete_topics([name], operation_timeout=30)[name].result(30)
        wait_until(lambda: name not in admin.list_topics(timeout=10).topics, f"topic {name} to be gone")

    def add_partitions(self, topic: str, total: int) -> None:
        """Let `topic` have `total` partitions, and wait until all of them can be used."""
        admin = self._admin()
        admin.create_partitions([NewPartitions(topic, total)], operation_timeout=30)[topic].result(30)
        wait_until(lambda: _answers(admin, topic, total), f"all partitions of {topic}")

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Delete all records with an offset below `before`, as retention would."""
        at = TopicPartition(topic, partition, before)
        admin = self._admin()
        admin.delete_records([at])[at].result(30)

    def throttle(self, client_id: str, bytes_per_s: int) -> None:
        """Let producers whose `client.id` is `client_id` append no more than that, by a quota."""
        quota = ["--alter", "--add-config", f"producer_byte_rate={bytes_per_s}"]
        whose = ["--entity-type", "clients", "--entity-name", client_id]
        self._jars = _jars()
        _run([*self._java("kafka.admin.ConfigCommand"), "--bootstrap-server", self.bootstrap_servers, *quota, *whose])

    def start(self) -> None:
        """Start the node that was stopped or killed, and wait until it answers."""
        folder = self._control()
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._java("kafka.Kafka"), str(self._settings)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._await_answer()

    def stop(self) -> None:
        """Shut the node down in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the node as a power failure would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze the node: connections stay open and nothing is answered."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen node go on; it answers what it received meanwhile."""
        self._running().send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End a node that was started here and remove its data."""
        if self._process is not None:
            self._end(signal.SIGKILL)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _admin(self) -> AdminClient:
        """Keep it until its answers are here: they are lost with the client."""
        settings: dict[str, str | int | float | bool] = {
            "bootstrap.servers": self.bootstrap_servers,
            "reconnect.backoff.ms": 50,
            "log_level": 0,
        }
        return AdminClient(settings)

    def _java(self, main: str) -> list[str]:
        return ["java", *JAVA, "-cp", f"{self._jars}/*", main]

    def _control(self) -> Path:
        if self._folder is None:
            raise ConnectorError(
                f"{self.bootstrap_servers} was not started by this process (or is closed), so it cannot be stopped "
                "or started from here: unset MICROSTREAM_TEST_KAFKA."
            )
        return self._folder

    def _running(self) -> subprocess.Popen[bytes]:
        self._control()
        if self._process is None:
            raise ConnectorError(f"the broker {self.bootstrap_servers} is stopped: call start() first.")
        return self._process

    def _end(self, how: signal.Signals) -> None:
        process = self._running()
        process.send_signal(signal.SIGCONT)
        process.send_signal(how)
        process.wait(READY_S)
        self._process = None

    def _await_answer(self) -> None:
        admin = self._admin()

        def answers() -> bool:
            if self._process is not None and self._process.poll() is not None:
                raise NoBrokerError(f"Kafka ended at start: {self._last_words()}")
            try:
                found = admin.list_topics(timeout=1)
            except KafkaException:
                return False
            # After a restart, partitions have no leader for some time: clients that begin then may hang.
            leaders = {part.leader for topic in found.topics.values() for part in topic.partitions.values()}
            return bool(found.brokers) and leaders <= found.brokers.keys()

        wait_until(answers, f"{self.bootstrap_servers} to answer")

    def _last_words(self) -> str:
        log = self._control() / "log"
        return log.read_text(errors="replace")[-500:]


class Stored(NamedTuple):
    """One record of a topic as a read_committed consumer sees it; `timestamp` in milliseconds."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int


def unique(name: str) -> str:
    """A topic name that no other test uses."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def produce(
    broker: Broker,
    topic: str,
    values: Sequence[bytes | None],
    *,
    partition: int = 0,
    key: bytes | Sequence[bytes] | None = None,
    timestamp: int | Sequence[int] = 0,
) -> None:
    """Append `values` to one partition and wait until the broker has them.

    `key` and `timestamp` (milliseconds; 0 means now) are one for all values, or one for each.
    """
    # How large a record may be is the topic's matter.
    settings = {"enable.idempotence": True, "message.max.bytes": 100_000_000}
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, **settings})
    failed: list[KafkaError] = []

    def note(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    for at, value in enumerate(values):
        own_key = key if key is None or isinstance(key, bytes) else key[at]
        time_ms = timestamp if isinstance(timestamp, int) else timestamp[at]
        while True:
            try:
                producer.produce(topic, value, own_key, partition=partition, timestamp=time_ms, on_delivery=note)
                break
            except BufferError:
                producer.poll(0.1)
    left = producer.flush(30)
    if left or failed:
        raise ConnectorError(f"{topic}: {left} of {len(values)} records not delivered, errors: {failed[:1]}.")


def consume_all(broker: Broker, topic: str) -> list[Stored]:
    """Everything committed in `topic` up to the last stable offset of each partition, by (partition, offset)."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.bootstrap_servers,
            "group.id": "microstream-consume-all",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
        }
    )
    try:
        waiting = set(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, number, 0) for number in sorted(waiting)])
        found: list[Stored] = []
        deadline = time.monotonic() + READY_S
        while waiting:
            if time.monotonic() > deadline:
                raise ConnectorError(f"{topic}: no end of partitions {sorted(waiting)} within {READY_S:.0f} s.")
            for message in consumer.consume(1000, timeout=0.05):
                error = message.error()
                if error is None:
                    found.append(_stored(message))
                elif error.code() == KafkaError._PARTITION_EOF:
                    waiting.discard(message.partition())
        return sorted(found)
    finally:
        consumer.close()


def _stored(message: Message) -> Stored:
    number, offset = message.partition(), message.offset()
    assert number is not None
    assert offset is not None
    return Stored(number, offset, message.key(), message.value(), message.timestamp()[1])


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return as soon as `condition` holds; ConnectorError naming `what` after a minute."""
    deadline = time.monotonic() + READY_S
    while not condition():
        if time.monotonic() > deadline:
            raise ConnectorError(f"waited {READY_S:.0f} s in vain for {what}.")
        time.sleep(0.02)


def _answers(admin: AdminClient, topic: str, partitions: int) -> bool:
    """Whether every partition has a leader that knows it."""
    latest: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    asked = admin.list_offsets({TopicPartition(topic, number): latest for number in range(partitions)})
    try:
        return all(future.result(30) is not None for future in asked.values())
    except KafkaException:
        return False


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _run(command: Sequence[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=600)
    except FileNotFoundError as missing:
        raise NoBrokerError(
            f"no Kafka for tests: {command[0]} is not installed. Install Java 17 and Maven, or set "
            "MICROSTREAM_TEST_KAFKA=host:port."
        ) from missing
    except subprocess.SubprocessError as failure:
        said = getattr(failure, "stderr", None) or getattr(failure, "stdout", None) or b""
        raise NoBrokerError(
            f"no Kafka for tests: {command[0]} failed ({said[-300:].decode(errors='replace').strip()}). "
            "Set MICROSTREAM_TEST_KAFKA=host:port to use a broker that runs."
        ) from failure


def _jars() -> Path:
    home = Path(
        os.environ.get("MICROSTREAM_KAFKA_HOME") or Path.home() / ".cache" / "microstream" / f"kafka-{KAFKA_VERSION}"
    )
    if any(home.glob("*.jar")):
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix="kafka-", dir=home.parent))
    try:
        pom = fresh / "pom.xml"
        pom.write_text(POM.format(version=KAFKA_VERSION))
        jars = fresh / "libs"
        _run(["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={jars}"])
        try:
            jars.rename(home)
        except OSError:
            if not any(home.glob("*.jar")):
                raise
        return home
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
