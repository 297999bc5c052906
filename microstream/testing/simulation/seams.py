"""Replacing one name of a production module for the time of a run."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from microstream.connectors.kafka import complaints, writer
from microstream.runtime.pauses import no_collections

__all__ = ["no_garbage_collection", "on_this_thread", "replaced"]


@contextmanager
def replaced(owner: Any, name: str, replacement: Any) -> Iterator[None]:
    """`owner.name` is `replacement` inside."""
    original = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, original)


@contextmanager
def on_this_thread() -> Iterator[None]:
    """Kafka calls are made where they are asked for inside, and no port is asked what it speaks.

    In production a thread guards against calls that hang, and a broker that does not answer is asked over the network.
    """

    def within(limit_s: float, call: Callable[..., Any], *args: Any) -> Any:
        return call(*args, limit_s)

    with replaced(writer, "within", within), replaced(complaints, "listener_of", lambda _servers: None):
        yield


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Cycles are left alone inside and collected at the end: in between, no seed determines when."""
    was_on = gc.isenabled()
    try:
        with no_collections():
            yield
    finally:
        if was_on:
            gc.collect(1)
