"""Whole queries in this process: the real driver and checkpoint, one worker in a thread, no cluster."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

import microstream as ms
from microstream.checkpoint.local import LocalStore
from microstream.checkpoint.owner import Owner, this_process
from microstream.checkpoint.store import ObjectStore
from microstream.clock import Clock, SystemClock
from microstream.plan.stages import cut
from microstream.runtime.driver import Driver
from microstream.runtime.inline import InlineEngine
from microstream.runtime.ports import Ports, QuerySpec
from microstream.runtime.trigger import Continuously
from microstream.settings import Settings


@dataclass
class Heard:
    """What a listener was told."""

    printed: list[tuple[str, int, pa.Table, int]] = field(default_factory=list)
    events: list[Mapping[str, Any]] = field(default_factory=list)

    def opened(self, job: str) -> None: ...

    def status(self, text: str) -> None: ...

    def progress(self, event: Mapping[str, Any]) -> None:
        self.events.append(event)

    def rows(self, sink: str, batch: int, table: pa.Table, total: int) -> None:
        self.printed.append((sink, batch, table, total))


class Ticking(Clock):
    """A clock of which every look takes a second, so that batch times are known to move on."""

    def __init__(self, step_us: int = 1_000_000) -> None:
        self._now = itertools.count(1_700_000_000_000_000, step_us)

    def now_us(self) -> int:
        return next(self._now)


def run(
    *sinks: ms.StreamSink,
    folder: Path,
    lanes: int = 2,
    store: ObjectStore | None = None,
    clock: Clock | None = None,
    meanwhile: Callable[[Driver], Coroutine[Any, Any, None]] | None = None,
) -> Heard:
    """Run a query to its end; `meanwhile` runs beside the driver."""
    heard = Heard()
    asyncio.run(_run(tuple(sinks), store or LocalStore(folder), lanes, clock or SystemClock(), heard, meanwhile))
    return heard


async def _run(
    sinks: tuple[ms.StreamSink, ...],
    store: ObjectStore,
    lanes: int,
    clock: Clock,
    heard: Heard,
    meanwhile: Callable[[Driver], Coroutine[Any, Any, None]] | None,
) -> None:
    query = QuerySpec(
        name="test",
        stages=cut(tuple(sink._node for sink in sinks)),
        trigger=Continuously(),
        settings=Settings(poll_us=1_000),
        lanes=lanes,
        default_lanes=lanes,
        default_start="earliest",
        takeover=True,
        storage_options={},
    )
    ports = Ports(
        store=store,
        engine=InlineEngine(store),
        clock=clock,
        offload=asyncio.to_thread,
        new_id=lambda: uuid.uuid4().hex,
        jitter_s=lambda: 0.0,
        owner=this_process(uuid.uuid4().hex),
        alive_here=_nobody,
    )
    driver = Driver(query, ports, heard)
    beside = asyncio.create_task(meanwhile(driver)) if meanwhile is not None else None
    await driver.run()
    if beside is not None:
        await beside


def _nobody(owner: Owner) -> bool:
    return False
