"""A function as a sink: called on workers with the rows that one lane left of one committed batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cloudpickle
import pandas as pd
import pyarrow as pa

from microstream.connectors.memory.sink import UncheckedProbe
from microstream.connectors.protocol import Confirmed, Outgoing
from microstream.errors import PlanError, UserFunctionError
from microstream.plan.dtypes import to_frame
from microstream.plan.expr import callable_name
from microstream.plan.specs import OutputMode, Publication

__all__ = ["Batch", "CallbackSink"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Which rows a function of `for_each_batch` is given: equal (job, sink, lane, id) are equal rows.

    Attributes
    ----------
    id
        Number of the batch; ids of a job grow, and are never used twice.
    lane
        Which of the parallel parts of the batch this is.
    job
        The uuid of the checkpoint, the same for all runs of the query.
    epoch
        Generation of the driver, a fencing token: what refuses calls of an older epoch is safe from a driver that
        slept while another one took over.
    sink
        Name of the sink.
    """

    id: int
    lane: int
    job: str
    epoch: int
    sink: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackSink:
    """`fn(frame, batch)` for the rows of each lane and batch, after the batch is committed.

    Raises
    ------
    PlanError
        `fn` cannot be called with two arguments, does nothing when it is called, or cannot be sent to workers.
    """

    fn: Callable[[pd.DataFrame, Batch], object]

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise PlanError(f"for_each_batch({self.fn!r:.60}): give a function, as in for_each_batch(write).")
        for waits, kind in ((inspect.iscoroutinefunction, "a coroutine"), (inspect.isgeneratorfunction, "a generator")):
            if waits(self.fn):
                raise PlanError(
                    f"for_each_batch: {callable_name(self.fn)} returns {kind}, and calling it would write nothing. "
                    "Give a plain function."
                )
        self._check_signature()
        try:
            cloudpickle.dumps(self.fn)
        except Exception as problem:
            raise PlanError(
                f"for_each_batch: {callable_name(self.fn)} cannot be sent to workers ({type(problem).__name__}: "
                f"{problem}). Open files and connections inside of it, not outside."
            ) from problem

    def _check_signature(self) -> None:
        try:
            signature = inspect.signature(self.fn)
        except ValueError:
            return  # of some builtins nothing is known
        try:
            signature.bind(None, None)
        except TypeError as problem:
            raise PlanError(
                f"for_each_batch: {callable_name(self.fn)}{signature} is called with a pandas frame and a batch "
                f"({problem}). Write it as def {getattr(self.fn, '__name__', 'write')}(frame, batch)."
            ) from problem

    @property
    def kind(self) -> str:
        """ "for_each_batch"."""
        return "for_each_batch"

    @property
    def target(self) -> str:
        """Module and name of the function."""
        return callable_name(self.fn)

    @property
    def format(self) -> str:
        """Rows stay Arrow until they are called with."""
        return ""

    @property
    def durable(self) -> bool:
        """True: what the function writes to may outlive the process."""
        return True

    @property
    def guarantee(self) -> str:
        """As `explain()` prints it."""
        return "at least once"

    @property
    def publication(self) -> Publication:
        """Lanes call by themselves, batch by batch, unless a result is wanted as a whole."""
        return Publication(whole=True)

    def check(self, schema: pa.Schema) -> None:
        """Any rows can be handed over."""

    def check_mode(self, mode: OutputMode) -> None:
        """In any mode."""

    def open_probe(self) -> UncheckedProbe:
        """The driver's view: nothing is known of what the function writes to."""
        return UncheckedProbe()

    def open_writer(self, *, job: str, sink: str, lane: int, schema: pa.Schema) -> CallbackWriter:
        """A worker's view, for one lane."""
        return CallbackWriter(self.fn, schema)


class CallbackWriter:
    """Keeps rows in the outbox, and calls with what it is given back."""

    def __init__(self, fn: Callable[[pd.DataFrame, Batch], object], schema: pa.Schema) -> None:
        self._fn = fn
        self._schema = schema

    def encode(self, table: pa.Table, *, event_time: str | None) -> pa.Table:
        """The rows themselves."""
        return table.cast(self._schema)

    def chunks(self, rows: pa.Table) -> tuple[int, ...]:
        """One call."""
        return (rows.num_rows,)

    def publish(self, outgoing: Outgoing) -> Confirmed:
        """Call the function; without rows where it is to learn that nothing is left of a whole result.

        Raises
        ------
        UserFunctionError
            It raised. It is not called again in this run: whether half of its work is done, only its author knows. The
            batch stays pending, so that the next start calls it with the same rows.
        """
        rows = outgoing.rows
        batch = Batch(id=outgoing.batch, lane=outgoing.lane, job=outgoing.job, epoch=outgoing.epoch, sink=outgoing.sink)
        try:
            self._fn(to_frame(rows), batch)
        except (Exception, SystemExit) as problem:
            # A SystemExit would end the worker, again and again.
            raise _blamed(self._fn, batch, problem) from problem
        return Confirmed(rows=rows.num_rows, skipped=False)

    def close(self) -> None:
        """Nothing to let go of."""


def _blamed(fn: Callable[..., Any], batch: Batch, problem: BaseException) -> UserFunctionError:
    what = f"{type(problem).__name__}: {problem}".rstrip(".")
    return UserFunctionError(
        f"sink {batch.sink!r}, batch {batch.id}, lane {batch.lane}: {callable_name(fn)} failed: {what}. The batch is "
        "committed and stays pending: mend the function and start the query again, which calls it with these rows.",
        operator=batch.sink,
        batch=batch.id,
        lane=batch.lane,
        position="",
    )
