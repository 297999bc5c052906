"""How a Kafka cluster is reached: settings of the clients, and what their errors mean here."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from microstream.connectors.kafka.chatter import client_log
from microstream.errors import ConnectorError, PlanError, UnreachableError

__all__ = ["FORBIDDEN", "Cluster", "refused", "said"]

log = logging.getLogger("microstream.kafka")

FORBIDDEN = {
    "bootstrap.servers": "use bootstrap_servers=",
    "transactional.id": "it is made of the job, the sink and the lane",
    "enable.auto.commit": "offsets are kept in the checkpoint",
    "enable.partition.eof": "the end of a batch is found by it",
    "auto.offset.reset": "use start= and on_data_loss=",
    "isolation.level": "what is not committed is never read",
    "enable.idempotence": "retries of the client must not repeat or reorder rows",
    "acks": "a batch is confirmed only when all in-sync replicas have it",
}
"""Settings that a user may not choose, and why."""

LASTING = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError._AUTHENTICATION,
        KafkaError._INVALID_ARG,
    }
)
"""Waiting does not cure these."""

PRODUCER_ONLY = frozenset(
    [
        "acks",
        "batch.num.messages",
        "batch.size",
        "compression.codec",
        "compression.level",
        "compression.type",
        "delivery.report.only.error",
        "delivery.timeout.ms",
        "enable.gapless.guarantee",
        "enable.idempotence",
        "linger.ms",
        "message.send.max.retries",
        "message.timeout.ms",
        "partitioner",
        "queue.buffering.backpressure.threshold",
        "queue.buffering.max.kbytes",
        "queue.buffering.max.messages",
        "queue.buffering.max.ms",
        "request.required.acks",
        "request.timeout.ms",
        "retries",
        "sticky.partitioning.linger.ms",
        "transaction.timeout.ms",
    ]
)
"""Settings of a sink that its consumers, which read markers, would only warn about (librdkafka's CONFIGURATION.md)."""

QUICK_RECONNECT = {"reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 1_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Addresses and librdkafka settings of one cluster; `config` holds no name of `FORBIDDEN`.

    Raises
    ------
    PlanError
        `config` sets what microstream decides.
    """

    bootstrap_servers: str
    config: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        for name, _ in self.config:
            if name in FORBIDDEN:
                raise PlanError(f"config={{{name!r}: ...}} cannot be set: {FORBIDDEN[name]}.")

    def admin(self) -> AdminClient:
        """A client for metadata."""
        return AdminClient(self._settings({}), logger=client_log())

    def consumer(
        self, settings: Mapping[str, Any], *, group: str = "microstream", committed_only: bool = True
    ) -> Consumer:
        """A consumer that commits nothing by itself; the user's config wins over `settings`.

        `committed_only`: neither records nor group offsets of open transactions are seen, the latter are waited for.
        """
        merged = self._settings({"group.id": group, **settings})
        merged = {name: value for name, value in merged.items() if name not in PRODUCER_ONLY}
        fixed = {
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "isolation.level": "read_committed" if committed_only else "read_uncommitted",
            "auto.offset.reset": "error",
        }
        return Consumer({**merged, **fixed}, logger=client_log())

    def producer(self, settings: Mapping[str, Any], fixed: Mapping[str, Any]) -> Producer:
        """An idempotent producer; the user's config wins over `settings` but not over `fixed`."""
        return Producer({**self._settings(settings), "enable.idempotence": True, **fixed}, logger=client_log())

    def setting(self, name: str, default: int) -> int:
        """The number that the user's config gives `name`."""
        return int(dict(self.config).get(name, default))

    def _settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        return {"bootstrap.servers": self.bootstrap_servers, **QUICK_RECONNECT, **settings, **dict(self.config)}


def refused(problem: KafkaException | KafkaError, what: str, cluster: Cluster) -> ConnectorError:
    """The error for `problem`: an UnreachableError where waiting may help."""
    error = problem.args[0] if isinstance(problem, KafkaException) else problem
    code = error.code() if isinstance(error, KafkaError) else KafkaError._FAIL
    message = f"{what} at {cluster.bootstrap_servers}: {said(error)}."
    if code in LASTING:
        return ConnectorError(f"{message} Check the ACLs and settings.", code=code)
    return UnreachableError(f"{message} Is the cluster up and reachable from this machine?", code=code)


def said(error: object) -> str:
    """What the client library says, without its wrapping; `KafkaError.name` is avoided: it can raise SystemError."""
    return error.str() if isinstance(error, KafkaError) else str(error)
