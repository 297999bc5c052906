"""What a client says beside the answers to its calls: a call that fails says "timed out", the reason comes here."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError, KafkaException

from microstream.connectors.kafka.client import LASTING, Cluster, refused
from microstream.connectors.kafka.listener import difference, listener_of
from microstream.errors import ConnectorError

__all__ = ["VAGUE", "Complaints", "explained", "first_answer"]

TRIES = 6
TRY_S = 0.5
"""Whoever starts a query learns so soon that it waits for its broker; the client goes on connecting between tries."""

VAGUE = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError._PURGE_QUEUE,
        KafkaError._WAIT_COORD,
    }
)
"""Codes of calls that nobody answered, for whatever reason."""


class Complaints:
    """The `error_cb` of one client; keeps what it said last."""

    def __init__(self) -> None:
        self.newest: KafkaError | None = None

    def __call__(self, error: KafkaError) -> None:
        """Note `error`; "all brokers down" follows each reason and is none."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.newest = error

    def forget(self) -> None:
        """What was said before has nothing to do with what is asked now."""
        self.newest = None

    @property
    def lasting(self) -> KafkaError | None:
        """What it said last, if waiting does not cure that: a wrong password, a certificate."""
        found = self.newest
        return found if found is not None and found.code() in LASTING else None


def first_answer(admin: Any, complaints: Complaints) -> Any:
    """Metadata of the cluster, as `AdminClient.list_topics` gives it, or soon an error.

    Raises
    ------
    KafkaException
        It does not answer, for whatever reason: see `explained`.
    """
    complaints.forget()
    for left in reversed(range(TRIES)):
        try:
            return admin.list_topics(timeout=TRY_S)
        except KafkaException:
            admin.poll(0)
            if complaints.lasting or not left:
                raise
    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


def explained(
    problem: KafkaException | KafkaError, what: str, cluster: Cluster, complaints: Complaints
) -> ConnectorError:
    """As `refused`; where `problem` says no more than that nobody answered, the client or the port gives the reason."""
    error = problem.args[0] if isinstance(problem, KafkaException) else problem
    if not isinstance(error, KafkaError) or error.code() not in VAGUE:
        return refused(problem, what, cluster)
    seen = complaints.newest
    if seen is not None and seen.code() not in LASTING | VAGUE:
        return refused(seen, what, cluster)
    listener = listener_of(cluster.bootstrap_servers)
    advice = difference(listener, dict(cluster.config)) if listener is not None else ""
    if advice:
        return ConnectorError(f"{what} at {cluster.bootstrap_servers}: {advice}.", code=error.code())
    return refused(seen or problem, what, cluster)
