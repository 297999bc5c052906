"""Calls of librdkafka that must come back.

When a broker restarts in the middle of a transaction, librdkafka (seen in 2.16) may take a connection that is lost for
one that is being made: the transactional call then ignores its own timeout, and in the worst case never returns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException

__all__ = ["within"]

T = TypeVar("T")

GRACE_S = 1.0
"""The client's own timeout comes first where it works: it says what the client was waiting for."""


def within(limit_s: float, call: Callable[..., T], *args: Any) -> T:
    """`call(*args, limit_s)`, but after `limit_s` seconds and a little more a timeout is raised whatever it does.

    The call goes on in its thread for as long as it likes, and keeps its client alive until then.

    Raises
    ------
    KafkaException
        As `call` does, or because it did not return.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(call(*args, limit_s))
        except BaseException as problem:  # noqa: BLE001 - raised again by the caller
            answer.set_exception(problem)

    threading.Thread(target=run, name="microstream-kafka-call", daemon=True).start()
    try:
        return answer.result(limit_s + GRACE_S)
    except TimeoutError:
        what = getattr(call, "__name__", "call")
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{what} did not return in {limit_s:.0f} s")) from None
