"""The query handle: a driver on a loop of its own thread, and what a user may ask of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import CancelledError, wait
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import dask.config
import pandas as pd
import pyarrow as pa

from microstream.checkpoint.memory import MemoryStore
from microstream.checkpoint.open import open_store
from microstream.errors import PlanError
from microstream.observe.console import print_batch
from microstream.observe.late_rows import LateRows
from microstream.observe.logs import logs_of_environment, working_on
from microstream.plan.dtypes import to_frame
from microstream.plan.stages import Stages
from microstream.runtime.changes import NOTHING, OnChange
from microstream.runtime.driver import Driver
from microstream.runtime.forking import start_forkserver
from microstream.runtime.inline import InlineEngine
from microstream.runtime.memory_tables import MemoryTables
from microstream.runtime.pauses import no_collections, short_pauses
from microstream.runtime.ports import Ports, QuerySpec
from microstream.runtime.recovery import told
from microstream.runtime.signals import after_ctrl_c, stopping_on_sigterm, wait_awake
from microstream.runtime.trigger import AvailableNow, Continuously, Trigger, interval_us
from microstream.runtime.view import QueryView
from microstream.runtime.world import at_work, world
from microstream.settings import Settings

__all__ = ["StreamingQuery", "compute", "queries", "start_query", "stop_all"]

T = TypeVar("T")

RECENT = 100
"""Progress events that are kept, as in Spark."""

_active: dict[str, StreamingQuery] = {}
_registry = threading.RLock()
"""Reentrant: a signal handler may look at the queries while the main thread does."""


class StreamingQuery(QueryView):
    """A running (or ended) query.

    Attributes
    ----------
    id : str
        The job's uuid: the same for all runs on one checkpoint. Empty until the checkpoint is open.
    name : str
        As given to `ms.start`.
    status : str
        What the query is doing or waiting for.
    is_active : bool
        Whether it still runs.
    exception : BaseException or None
        What ended it, if it did not end well.
    last_progress : dict or None
        Spark's progress keys of the newest batch.
    recent_progress : list of dict
        The newest 100 of them.
    """

    def __init__(self, name: str, stages: Stages) -> None:
        self.id = ""
        self.name = name
        self.status = "starting"
        self.exception: BaseException | None = None
        self.last_progress = None
        self._recent: deque[dict[str, Any]] = deque(maxlen=RECENT)
        self._stages = stages
        self._stop_wanted = False
        self._late_rows = LateRows(stages.dropping())
        self._tables = MemoryTables(sink for sink in stages.sinks if sink.spec.kind == "memory")
        self._consoles = frozenset(sink.name for sink in stages.sinks if sink.spec.kind == "console")
        self._ended = threading.Event()
        self._noticed = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._driver = None
        self._store = None
        self._temporary = False

    def __repr__(self) -> str:
        return f"<StreamingQuery {self.name!r}: {self.status}>"

    @property
    def is_active(self) -> bool:
        """Whether the query still runs."""
        return not self._ended.is_set()

    @property
    def recent_progress(self) -> list[dict[str, Any]]:
        """The newest 100 progress events, oldest first."""
        return list(self._recent)

    # -- told by the driver -------------------------------------------------------------------------------------

    def opened(self, job: str) -> None:
        """The checkpoint is ours."""
        self.id = job
        self._noticed.set()

    def note_status(self, text: str) -> None:
        """The driver does or waits for something else."""
        self.status = text or "running"
        if text.startswith(("waiting", "watching")):
            self._noticed.set()

    def progress(self, event: Mapping[str, Any]) -> None:
        """A batch was committed."""
        self.last_progress = dict(event)
        self._recent.append(self.last_progress)
        self._late_rows.note(event)

    def rows(self, sink: str, batch: int, table: pa.Table, total: int) -> None:
        """Rows of a sink in this process."""
        if sink in self._consoles:
            print_batch(sink, batch, to_frame(table), total)
            return
        self._tables.add(sink, batch, table)

    # -- asked by a preview -------------------------------------------------------------------------------------

    def row_count(self) -> int:
        """Rows that arrived in sinks of this process."""
        return self._tables.row_count()

    def has_read_all(self) -> bool:
        """Whether something was read, and everything that the sources hold now is committed."""
        return self.last_progress is not None and self._driver is not None and self._driver.has_read_all()

    def end_input(self) -> None:
        """Take what was read until now for all input: windows close, and the query ends."""

        async def end(driver: Driver) -> None:
            driver.end_input()

        self._ask(end)

    # -- asked by the user --------------------------------------------------------------------------------------

    def await_termination(self, timeout: float | None = None) -> bool:
        """Wait until the query ends.

        Ctrl-C in a script stops all queries of the process in order before it goes on as KeyboardInterrupt (a second
        one does not wait for that); in a notebook it only ends the waiting. SIGTERM while the main thread waits here
        is `stop()` of all queries, unless the program handles that signal itself.

        Parameters
        ----------
        timeout
            Seconds; None waits for ever.

        Returns
        -------
        bool
            Whether it has ended.

        Raises
        ------
        MicrostreamError
            The exception that ended the query.
        """
        with stopping_on_sigterm(stop_all):
            try:
                ended = wait_awake(self._ended, timeout)
            except KeyboardInterrupt:
                after_ctrl_c(self.name, stop_all, [query._ended for query in queries()])
                raise
        if ended and self.exception is not None:
            raise self.exception
        return ended

    def process_all_available(self) -> None:
        """Wait until everything that the sources hold now is committed and published.

        Rows that `to_parquet(every=)` holds are committed; they become files when it is time, or by `stop()`.

        Raises
        ------
        MicrostreamError
            The exception that ended the query.
        """
        if not self._ask(Driver.caught_up):
            self.await_termination()

    def stop(self) -> None:
        """Finish the batches in flight, publish them, and end. Windows that are open stay in the checkpoint.

        Raises
        ------
        MicrostreamError
            The exception that ended the query before.
        """

        wait_awake(self._noticed)
        self._request_stop()
        self.await_termination()

    def _request_stop(self) -> None:
        """Stop soon; returns at once."""
        self._stop_wanted = True
        if self._loop is not None and self._driver is not None and not self._ended.is_set():
            with suppress(RuntimeError):  # it ended just now, and its loop with it
                self._loop.call_soon_threadsafe(self._driver.stop)

    def table(self, sink: str | None = None) -> pd.DataFrame:
        """Rows that arrived in a memory sink since this process started the query.

        Of rows that change (output mode "update") every value that they had, with the batch in column `_batch`; of a
        whole result ("complete") that of the newest batch.

        Parameters
        ----------
        sink
            Its name; may be left out when the query has one memory sink.
        """
        names = self._tables.names
        if sink is None and len(names) == 1:
            [sink] = names
        if sink not in names:
            raise PlanError(f"table({sink!r}): memory sinks of query {self.name!r}: {', '.join(names) or 'none'}.")
        return to_frame(self._tables.table(sink))

    def _ask(self, question: Callable[[Driver], Coroutine[Any, Any, T]]) -> T | None:
        """The answer to `question` from the driver's loop; None once the query has ended."""
        wait_awake(self._noticed)
        if self._loop is None or self._driver is None or self._ended.is_set():
            return None
        answer = asyncio.run_coroutine_threadsafe(question(self._driver), self._loop)
        while not self._ended.is_set():
            done, _ = wait([answer], timeout=0.1)
            if done:
                with suppress(CancelledError):
                    return answer.result()
                # The query ended meanwhile, and has an error of its own to tell.
                wait_awake(self._ended)
        return None

    # -- life ---------------------------------------------------------------------------------------------------

    def _run(self, spec: QuerySpec, open_world: Callable[[], Ports], temporary: str | None) -> None:
        self._temporary = temporary is not None
        try:
            with short_pauses():
                asyncio.run(self._drive(spec, open_world))
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits for the query
            self.exception = told(error, self.name)
            self.status = f"failed: {self.exception}"
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
            with _registry:
                if _active.get(self.name) is self:
                    del _active[self.name]
            self._ended.set()
            self._noticed.set()

    async def _drive(self, spec: QuerySpec, open_world: Callable[[], Ports]) -> None:
        ports = open_world()
        self._loop, self._store = asyncio.get_running_loop(), ports.store
        self._driver = Driver(spec, ports, _Told(self))
        if self._stop_wanted:
            self._driver.stop()
        with at_work(ports.owner), working_on(query=self.name):
            await self._driver.run()


class _Told:
    """The listener that fills a handle."""

    def __init__(self, query: StreamingQuery) -> None:
        self.opened, self.status = query.opened, query.note_status
        self.progress, self.rows = query.progress, query.rows


def queries() -> tuple[StreamingQuery, ...]:
    """Queries that run in this process."""
    with _registry:
        return tuple(_active.values())


def stop_all() -> None:
    """Ask every query of this process to stop; returns at once, and may be called by a signal handler."""
    for query in queries():
        query._request_stop()


def start_query(
    *,
    stages: Stages,
    name: str,
    checkpoint: str | None,
    trigger: Trigger,
    storage_options: Mapping[str, Any] | None = None,
    lanes: int | None = None,
    client: Any = None,
    takeover: bool = False,
    on_change: OnChange = NOTHING,
    settings: Mapping[str, Any] | None = None,
) -> StreamingQuery:
    """Start a query on a Dask cluster; returns once it owns its checkpoint, or waits for something outside.

    Parameters
    ----------
    client
        A `distributed.Client` or the address of a scheduler; None starts a local cluster that ends with the query.
    settings
        Values that win over `dask.config`, as `Settings.of` takes them.

    Raises
    ------
    MicrostreamError
        The query could not start.
    """
    logs_of_environment()
    chosen = Settings.of({**dask.config.get("microstream", {}), **(settings or {})})
    durable = [sink.name for sink in stages.sinks if sink.spec.durable]
    if checkpoint is None and durable:
        raise PlanError(
            f"sink {durable[0]!r} needs a checkpoint to be exactly once: pass checkpoint='s3://bucket/x' or a folder."
        )
    if client is None:
        with suppress(OSError):  # only early; the cluster needs it, and says what is wrong
            start_forkserver()
    with no_collections():
        from microstream.runtime.cluster import DaskEngine, scheduler_of

    temporary = tempfile.mkdtemp(prefix="microstream-") if checkpoint is None else None
    folder = temporary or str(checkpoint)
    workers = chosen.workers or min(os.cpu_count() or 1, 4)
    address, threads, security = scheduler_of(client) if client is not None else (None, workers, None)
    _replace_active(name)
    spec = QuerySpec(
        name=name,
        stages=stages,
        trigger=trigger,
        settings=chosen,
        lanes=lanes,
        default_lanes=max(1, min(threads, 16)),
        default_start="earliest" if isinstance(trigger, AvailableNow) else "latest",
        takeover=takeover,
        on_change=on_change,
        storage_options=storage_options or {},
    )

    def open_world() -> Ports:
        between_us = interval_us(trigger)
        calls = client is None and between_us is not None and between_us < chosen.call_below_us
        engine = DaskEngine(address, workers, security, calls=calls)
        return world(open_store(folder, dict(spec.storage_options)), engine)

    query = StreamingQuery(name, stages)
    with _registry:
        _active[name] = query
    threading.Thread(
        target=query._run, args=(spec, open_world, temporary), name=f"microstream-{name}", daemon=True
    ).start()
    wait_awake(query._noticed)
    if query.exception is not None:
        raise query.exception
    return query


def _replace_active(name: str) -> None:
    """A notebook cell that is run again replaces the query it started before."""
    with _registry:
        before = _active.get(name)
    if before is not None:
        before._request_stop()
        wait_awake(before._ended)


@contextmanager
def stopped_on_interrupt(query: StreamingQuery) -> Iterator[None]:
    """Within, Ctrl-C also ends a query that nobody else has a handle of."""
    try:
        yield
    except BaseException:
        query._request_stop()
        raise


def compute(stages: Stages, *, settings: Mapping[str, Any] | None = None) -> dict[str, pa.Table]:
    """Run a query over finite input to its end, in this process; the rows of every memory sink.

    Raises
    ------
    PlanError
        A source never ends.
    """
    endless = [node.name for node in stages.sources if not node.spec.finite]
    if endless:
        raise PlanError(f"compute(): source {endless[0]!r} never ends. Use ms.start, or head().")
    spec = QuerySpec(
        name="compute",
        stages=stages,
        trigger=Continuously(),
        settings=Settings.of({**dask.config.get("microstream", {}), **(settings or {})}),
        lanes=1,
        default_lanes=1,
        default_start="earliest",
        takeover=False,
        storage_options={},
    )
    store = MemoryStore()
    query = StreamingQuery(spec.name, stages)
    run = threading.Thread(target=query._run, args=(spec, lambda: world(store, InlineEngine(store)), None), daemon=True)
    run.start()
    with stopped_on_interrupt(query):
        wait_awake(query._ended)
    query.await_termination()
    return {sink: query._tables.table(sink) for sink in query._tables.names}
