"""The newest records of topics, to learn from."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from microstream.connectors.kafka.client import Cluster, refused
from microstream.connectors.kafka.cursor import partition_of, place_of
from microstream.connectors.kafka.probe import KafkaProbe
from microstream.connectors.kafka.reader import FETCH, MESSAGES
from microstream.errors import UnreachableError
from microstream.formats.json_infer import Example

__all__ = ["newest"]

WAIT_S = 30.0
POLL_S = 0.1


def newest(cluster: Cluster, topics: Sequence[str], count: int) -> list[Example]:
    """The last `count` committed records or so, an equal share of each partition; tombstones are left out.

    Raises
    ------
    ConnectorError
        A topic is missing, or the cluster does not answer.
    """
    probe = KafkaProbe(cluster, topics)
    bounds = {name: at for name, at in probe.bounds().items() if at.end > at.low}
    probe.close()
    share = -(-count // max(1, len(bounds)))
    ends = {place_of(name): at.end for name, at in bounds.items()}
    spots = [TopicPartition(*place_of(name), max(at.low, at.end - share)) for name, at in bounds.items()]
    consumer = cluster.consumer(FETCH)
    examples: list[Example] = []
    try:
        consumer.assign(spots)
        silent_s = 0.0
        while ends:
            messages = consumer.consume(MESSAGES, POLL_S)
            silent_s = 0.0 if messages else silent_s + POLL_S
            if silent_s > WAIT_S:
                raise UnreachableError(
                    f"nothing came from {cluster.bootstrap_servers} for {WAIT_S:.0f} s. Is the cluster up?"
                )
            for message in messages:
                topic, number, offset = str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)
                error = message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                end = ends.get((topic, number))
                if end is None:
                    continue
                value = message.value()
                if error is None and offset < end and isinstance(value, bytes):
                    examples.append(Example(f"{partition_of(topic, number)} offset {offset}", value))
                # An end is reported once; what lies before it may hold no record any more.
                if offset >= end - (error is None):
                    del ends[topic, number]
    except KafkaException as problem:
        raise refused(problem, f"topic {', '.join(topics)} cannot be read", cluster) from problem
    finally:
        consumer.close()
    return examples
