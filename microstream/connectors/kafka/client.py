"""How a Kafka cluster is reached: settings of the clients, and what their errors mean here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from microstream.connectors.kafka.chatter import client_log
from microstream.errors import ConnectorError, PlanError, UnreachableError

__all__ = ["FORBIDDEN", "Cluster", "refused", "said"]

log = logging.getLogger("microstream.kafka")

C = TypeVar("C")

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
        KafkaError._SSL,
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

PROOF = {
    KafkaError._AUTHENTICATION: "Check sasl.mechanism, sasl.username and sasl.password in config=.",
    KafkaError.SASL_AUTHENTICATION_FAILED: "Check sasl.mechanism, sasl.username and sasl.password in config=.",
    KafkaError._SSL: "Check ssl.ca.location, the host name, and the client's own certificate in config=.",
}
"""What to do where a broker does not believe us, or we do not believe it."""

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

    def admin(self, on_error: Callable[[KafkaError], None] | None = None) -> AdminClient:
        """A client for metadata, which tells `on_error` what goes wrong whenever it is polled."""
        heard = {} if on_error is None else {"error_cb": on_error}
        return self._made(AdminClient, {**self._settings({}), **heard})

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
        return self._made(Consumer, {**merged, **fixed})

    def producer(self, settings: Mapping[str, Any], fixed: Mapping[str, Any]) -> Producer:
        """An idempotent producer; the user's config wins over `settings` but not over `fixed`."""
        return self._made(Producer, {**self._settings(settings), "enable.idempotence": True, **fixed})

    def _made(self, kind: Callable[..., C], settings: Mapping[str, Any]) -> C:
        """A client. Raises PlanError where librdkafka does not take the settings."""
        try:
            return kind(dict(settings), logger=client_log())
        except KafkaException as problem:
            # Not the settings themselves: one of them may be a password.
            raise PlanError(
                f"config= of Kafka at {self.bootstrap_servers}: {said(problem.args[0])}. Names and values are those of "
                "librdkafka's CONFIGURATION.md; files must be readable where the query starts and on every worker."
            ) from problem

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
    if code in PROOF:
        return ConnectorError(f"{message} {PROOF[code]}", code=code)
    if code in LASTING:
        return ConnectorError(f"{message} Check the ACLs and settings.", code=code)
    return UnreachableError(f"{message} Is the cluster up and reachable from this machine?", code=code)


def said(error: object) -> str:
    """What the client library says, without its wrapping; `KafkaError.name` is avoided: it can raise SystemError."""
    return error.str() if isinstance(error, KafkaError) else str(error)
