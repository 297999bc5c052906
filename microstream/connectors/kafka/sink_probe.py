"""The driver's view of a target topic at start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AclOperation  # type: ignore[attr-defined]

from microstream.connectors.kafka.client import Cluster, refused
from microstream.connectors.kafka.complaints import Complaints, explained, first_answer
from microstream.connectors.kafka.marker import Marker, marker_group
from microstream.connectors.kafka.probe import TIMEOUT_S, UNKNOWN, missing_topics
from microstream.errors import ConnectorError

__all__ = ["KafkaSinkProbe"]

MARKERS_AT_ONCE = 8


class KafkaSinkProbe:
    """See `microstream.connectors.protocol.SinkProbe`."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._complaints = Complaints()
        self._admin = cluster.admin(self._complaints)

    def check(self) -> None:
        """Raise ConnectorError if the topic is missing or may not be written."""
        try:
            first_answer(self._admin, self._complaints)
            asked = self._admin.describe_topics(
                TopicCollection([self._topic]),
                include_authorized_operations=True,
                request_timeout=TIMEOUT_S,
            )
            allowed = asked[self._topic].result(TIMEOUT_S + 1).authorized_operations
        except KafkaException as problem:
            if problem.args[0].code() in UNKNOWN:
                raise missing_topics(self._cluster, self._admin, (self._topic,)) from problem
            self._admin.poll(0)
            what = f"topic {self._topic!r} cannot be reached"
            raise explained(problem, what, self._cluster, self._complaints) from problem
        if allowed and AclOperation.WRITE not in allowed:
            raise ConnectorError(
                f"topic {self._topic!r} at {self._cluster.bootstrap_servers} may not be written by this user: grant "
                "WRITE on the topic."
            )

    def markers(self, job: str, sink: str, lanes: Sequence[int]) -> Mapping[int, int | None]:
        """Lane -> newest batch published there, None where nothing is known.

        What an open transaction holds is not waited for: a writer's init decides it before it reads the marker again.
        """
        with ThreadPoolExecutor(max_workers=MARKERS_AT_ONCE) as pool:
            found = pool.map(lambda lane: self._marker(lane, marker_group(job, sink, lane)), lanes)
            return dict(zip(lanes, found, strict=True))

    def close(self) -> None:
        """Let go of connections."""
        del self._admin

    def _marker(self, lane: int, group: str) -> int | None:
        """A consumer is asked: `AdminClient.list_consumer_group_offsets` ends the process (librdkafka 2.16, without a
        Python error) when it finds that the coordinator has moved, as it has after a broker's restart.
        """
        consumer = self._cluster.consumer({}, group=group, committed_only=False)
        try:
            [found] = consumer.committed([TopicPartition(self._topic, 0)], TIMEOUT_S)
            if found.error is not None:
                raise KafkaException(found.error)
        except KafkaException as problem:
            if problem.args[0].code() in (KafkaError.GROUP_ID_NOT_FOUND, *UNKNOWN):
                return None
            raise refused(problem, f"the marker of lane {lane} cannot be read", self._cluster) from problem
        finally:
            consumer.close()
        marker = Marker.of(found)
        return None if marker.batch < 0 else marker.batch
