"""Topics of a cluster without a controller, which cannot be asked to describe them: librdkafka's in-process one.

Its metadata names partitions but no topic ids, so a topic that was re-created there is not noticed.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException

__all__ = ["DescribedPartition", "DescribedTopic", "describe", "is_in_process"]

IN_PROCESS = "mockCluster"
"""How the ids of librdkafka's in-process clusters begin (`test.mock.num.brokers`)."""

TIMEOUT_S = 3.0
"""Whoever starts a query learns so soon that it waits for its broker; the client goes on connecting between tries."""


@dataclass(frozen=True, slots=True)
class DescribedPartition:
    """Number of a partition."""

    id: int


@dataclass(frozen=True, slots=True)
class DescribedTopic:
    """What is known of a topic; like confluent-kafka's `TopicDescription`, as far as it is used."""

    partitions: tuple[DescribedPartition, ...]
    topic_id: str = ""


def is_in_process(metadata: Any) -> bool:
    """Whether a cluster is librdkafka's own, by what `AdminClient.list_topics` gave."""
    return str(metadata.cluster_id).startswith(IN_PROCESS)


def describe(admin: Any, topics: Iterable[str]) -> dict[str, Future[Any]]:
    """A finished future per topic, as from `AdminClient.describe_topics`. Raises KafkaException."""
    there = admin.list_topics(timeout=TIMEOUT_S).topics
    return {topic: _answer(there.get(topic)) for topic in topics}


def _answer(metadata: Any | None) -> Future[Any]:
    answer: Future[Any] = Future()
    if metadata is None:
        answer.set_exception(KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
    else:
        answer.set_result(DescribedTopic(tuple(map(DescribedPartition, sorted(metadata.partitions)))))
    return answer
