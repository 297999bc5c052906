"""The real world of a driver: system clock, threads, random ids, and which owners run in this process."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from microstream.checkpoint.owner import Owner, is_alive, this_process
from microstream.checkpoint.store import ObjectStore
from microstream.clock import SystemClock
from microstream.runtime.engine import Engine
from microstream.runtime.ports import Ports

__all__ = ["at_work", "world"]

T = TypeVar("T")

_owners: set[str] = set()


@contextmanager
def at_work(owner: Owner) -> Iterator[None]:
    """Within, other drivers of this process know that `owner` runs."""
    _owners.add(owner.id)
    try:
        yield
    finally:
        _owners.discard(owner.id)


def world(store: ObjectStore, engine: Engine) -> Ports:
    """The world around `store` and `engine`."""
    return Ports(
        store=store,
        engine=engine,
        clock=SystemClock(),
        offload=_offload,
        new_id=lambda: uuid.uuid4().hex,
        jitter_s=lambda: random.uniform(0.0, 0.1),
        owner=this_process(uuid.uuid4().hex),
        alive_here=_alive_here,
    )


async def _offload(function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    return await asyncio.to_thread(function, *args, **kwargs)


def _alive_here(owner: Owner) -> bool:
    return is_alive(owner, active=_owners)
