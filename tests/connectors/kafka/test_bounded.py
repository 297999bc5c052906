from __future__ import annotations

import threading

import pytest
from confluent_kafka import KafkaError, KafkaException

from microstream.connectors.kafka.bounded import within
from microstream.connectors.kafka.client import Cluster, refused
from microstream.errors import UnreachableError


def test_a_call_gets_the_limit_as_its_own_timeout_and_its_answer_comes_back() -> None:
    assert within(3.0, lambda name, limit_s: (name, limit_s), "commit") == ("commit", 3.0)


def test_what_a_call_raises_is_raised() -> None:
    def fenced(limit_s: float) -> None:
        raise KafkaException(KafkaError(KafkaError._FENCED))

    with pytest.raises(KafkaException) as caught:
        within(3.0, fenced)

    assert caught.value.args[0].code() == KafkaError._FENCED


def test_a_call_that_never_returns_is_an_outcome_that_is_not_known() -> None:
    answered = threading.Event()

    def commit_transaction(limit_s: float) -> bool:
        return answered.wait()

    with pytest.raises(KafkaException, match="commit_transaction did not return") as caught:
        within(0.01, commit_transaction)
    answered.set()

    error = refused(caught.value, "batch 3 is not confirmed", Cluster(bootstrap_servers="localhost:9092"))
    assert isinstance(error, UnreachableError)
