"""What a query shows while it runs and afterwards: lag, plan, state, checkpoints, its cell in a notebook."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from microstream.checkpoint.store import ObjectStore
from microstream.errors import PlanError
from microstream.later import QUERY as LATER
from microstream.later import later
from microstream.observe.lag import lag_frame
from microstream.observe.notebook import Drawn, has_live_cells, query_html, show_live
from microstream.plan.dtypes import to_frame
from microstream.plan.explain import explain
from microstream.plan.stages import Stages
from microstream.runtime.driver import Driver
from microstream.runtime.memory_tables import MemoryTables
from microstream.runtime.opened import Checkpoint
from microstream.runtime.signals import wait_awake

__all__ = ["QueryView"]

T = TypeVar("T")

ROWS_SHOWN = 10


class QueryView(ABC):
    """The part of a query's handle that changes nothing."""

    name: str
    status: str
    last_progress: dict[str, Any] | None
    _stages: Stages
    _driver: Driver | None
    _store: ObjectStore | None
    _temporary: bool
    _tables: MemoryTables
    _noticed: threading.Event
    _ended: threading.Event

    if not TYPE_CHECKING:  # or misspelt names would pass

        def __getattr__(self, name):
            if name in LATER:
                raise later("a query", name, LATER)
            return object.__getattribute__(self, name)  # for its error, also of a property's own

    @abstractmethod
    def _ask(self, question: Callable[[Driver], Coroutine[Any, Any, T]]) -> T | None:
        """The answer to `question` from the driver's loop; None once the query has ended."""

    def lag(self) -> pd.DataFrame:
        """How far the query is behind its sources: asks them now.

        Returns
        -------
        pandas.DataFrame
            Per source partition: source, partition, position (first offset that is not committed), end, lag,
            max_event_time, status. Empty before the query owns its checkpoint; without `end` and `lag` once it ended.
        """
        answer = self._ask(Driver.standing)
        if answer is None:
            answer = (self._driver.sources if self._driver is not None else (), {})
        return lag_frame(*answer)

    def state(self, operator: str, batch: int | None = None) -> pd.DataFrame:
        """What a stateful operator remembers, from the checkpoint; see `microstream.open_checkpoint`.

        Parameters
        ----------
        operator
            Its id: the name given by `.named()`, or "aggregate-0" and so on.
        batch
            As of after this batch; None: the newest that is committed.
        """
        return self._checkpoint().state(operator, batch)

    def checkpoints(self) -> pd.DataFrame:
        """The checkpoints that are retained, one row each; see `microstream.open_checkpoint`."""
        return self._checkpoint().batches()

    def _checkpoint(self) -> Checkpoint:
        wait_awake(self._noticed)
        if self._store is None or (self._temporary and self._ended.is_set()):
            raise PlanError(
                f"query {self.name!r} has no checkpoint (any more): give checkpoint= a folder or a URL to keep one."
            )
        return Checkpoint(self._store, {o.id: o.node for o in self._stages.operators})

    def explain(self) -> str:
        """The compiled plan as text: stages, exchanges, windows and guarantees. Print it."""
        return explain(self._stages)

    def _newest(self) -> dict[str, pd.DataFrame]:
        """The newest rows of each memory sink."""
        return {sink: to_frame(table) for sink, table in self._tables.tails(ROWS_SHOWN).items()}

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Drawn:
        html = query_html(self.name, self.status, self.last_progress, self._newest())
        return {"text/plain": repr(self), "text/html": html}

    def _ipython_display_(self) -> None:
        """Show the query in a cell, and redraw it there while it runs."""
        if not has_live_cells():
            raise NotImplementedError  # how IPython is told to use the other representations
        show_live(self._repr_mimebundle_, self._ended)
