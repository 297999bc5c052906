"""Everything of the outside world that a driver touches, in one value: a real one, or a simulated one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from microstream.checkpoint.owner import Owner
from microstream.checkpoint.store import ObjectStore
from microstream.clock import Clock
from microstream.plan.stages import Stages
from microstream.runtime.changes import NOTHING, OnChange
from microstream.runtime.engine import Engine, Offload
from microstream.runtime.trigger import Trigger
from microstream.settings import Settings

__all__ = ["Listener", "Ports", "QuerySpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The world of one driver. `alive_here` tells whether an owner of this host and boot still runs."""

    store: ObjectStore
    engine: Engine
    clock: Clock
    offload: Offload
    new_id: Callable[[], str]
    jitter_s: Callable[[], float]
    owner: Owner
    alive_here: Callable[[Owner], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuerySpec:
    """What the user asked for. `lanes` None: the checkpoint's, or `default_lanes` for a new query."""

    name: str
    stages: Stages
    trigger: Trigger
    settings: Settings
    lanes: int | None
    default_lanes: int
    default_start: str
    takeover: bool
    storage_options: Mapping[str, Any]
    on_change: OnChange = field(default_factory=lambda: NOTHING)


class Listener(Protocol):
    """Told, on the driver's loop, what a user may want to see."""

    def opened(self, job: str) -> None:
        """The checkpoint is owned; `job` is its uuid."""
        ...

    def status(self, text: str) -> None:
        """What the query is doing or waiting for."""
        ...

    def progress(self, event: Mapping[str, Any]) -> None:
        """A batch was committed: Spark's progress keys."""
        ...

    def rows(self, sink: str, batch: int, table: pa.Table, total: int) -> None:
        """Rows of a sink that lives in this process: all `total` of them, or the first ones."""
        ...
