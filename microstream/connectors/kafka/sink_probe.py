"""The driver's view of a target topic at start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AclOperation  # type: ignore[attr-defined]

from microstream.connectors.kafka.client import Cluster, refused
from microstream.connectors.kafka.marker import Marker, marker_group
from microstream.connectors.kafka.probe import TIMEOUT_S, UNKNOWN, missing_topics
from microstream.errors import ConnectorError

__all__ = ["KafkaSinkProbe"]


class KafkaSinkProbe:
    """See `microstream.connectors.protocol.SinkProbe`."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._admin = cluster.admin()

    def check(self) -> None:
        """Raise ConnectorError if the topic is missing or may not be written."""
        try:
            asked = self._admin.describe_topics(
                TopicCollection([self._topic]),
                include_authorized_operations=True,
                request_timeout=TIMEOUT_S,
            )
            allowed = asked[self._topic].result(TIMEOUT_S + 1).authorized_operations
        except KafkaException as problem:
            if problem.args[0].code() in UNKNOWN:
                raise missing_topics(self._cluster, self._admin, (self._topic,)) from problem
            raise refused(problem, f"topic {self._topic!r} cannot be reached", self._cluster) from problem
        if allowed and AclOperation.WRITE not in allowed:
            raise ConnectorError(
                f"topic {self._topic!r} at {self._cluster.bootstrap_servers} may not be written by this user: grant "
                "WRITE on the topic."
            )

    def markers(self, job: str, sink: str, lanes: Sequence[int]) -> Mapping[int, int | None]:
        """Lane -> newest batch published there, None where nothing is known.

        What an open transaction holds is not waited for: a writer's init decides it before it reads the marker again.
        """
        spot = TopicPartition(self._topic, 0)
        asked = {lane: self._ask(marker_group(job, sink, lane), spot) for lane in lanes}
        return {lane: self._batch(lane, future) for lane, future in asked.items()}

    def close(self) -> None:
        """Let go of connections."""
        del self._admin

    def _ask(self, group: str, spot: TopicPartition) -> Future[Any]:
        wanted = ConsumerGroupTopicPartitions(group, [spot])
        future: Future[Any] = self._admin.list_consumer_group_offsets(
            [wanted], require_stable=False, request_timeout=TIMEOUT_S
        )[group]
        return future

    def _batch(self, lane: int, future: Future[Any]) -> int | None:
        try:
            [found] = future.result(TIMEOUT_S + 1).topic_partitions
        except KafkaException as problem:
            if problem.args[0].code() in (KafkaError.GROUP_ID_NOT_FOUND, *UNKNOWN):
                return None
            raise refused(problem, f"the marker of lane {lane} cannot be read", self._cluster) from problem
        marker = Marker.of(found)
        return None if marker.batch < 0 else marker.batch
