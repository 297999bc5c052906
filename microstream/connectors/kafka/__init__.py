"""Kafka: topics as sources and sinks, exactly once."""

from microstream.connectors.kafka.spec import KafkaSink, KafkaSource

__all__ = ["KafkaSink", "KafkaSource"]
