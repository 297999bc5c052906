"""Rows by key, in windows or all until now: `frame.groupby(keys).agg(...)`, `.size()` or `[columns].sum()`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, Never, NoReturn, TypeVar

from microstream.clock import duration_us
from microstream.errors import PlanError
from microstream.frame.aggregates import Wanted, aggregate_of
from microstream.later import GROUPS as LATER
from microstream.later import later
from microstream.plan.aggregates import HOWS, Aggregate, How
from microstream.plan.nodes import Node, RunningAggregate, Sliding, Stateful, Tumbling, WindowAggregate

__all__ = ["GroupBy", "Groups", "SelectedGroups", "WindowedGroups"]

F = TypeVar("F")
"""The kind of frame that comes out: grouping knows how to make one, not what it can do."""


@dataclass(frozen=True, slots=True)
class Groups(ABC, Generic[F]):
    """Rows in groups, and what can be computed of each group."""

    _node: Node
    _keys: tuple[str, ...]
    _frame_of: Callable[[Node], F]

    @property
    @abstractmethod
    def _text(self) -> str:
        """How it was written, for messages."""

    @abstractmethod
    def _operator(self, aggregates: tuple[Aggregate, ...]) -> Stateful:
        """The node that computes `aggregates`."""

    def agg(self, *unnamed: Never, **aggregates: Wanted) -> F:
        """One row per group.

        In windows it is emitted once, when the watermark has passed the window's end. Without a window it is emitted
        whenever its values changed, once per batch: each row replaces the one of the same keys before it, and the state
        holds a row per key for ever. A sink's `output_mode` can ask for another form.

        Parameters
        ----------
        **aggregates
            Output column = (input column, how), `pd.NamedAgg(input column, how)`, or `ms.agg(...)`, which also lists
            what `how` may be.

        Returns
        -------
        StreamFrame
            Keys, in windows `window_start` and `window_end` (naive UTC `datetime64[us]`), aggregates. In windows its
            event time is `window_end`, and its `.late` holds the rows that came after their window closed. Without a
            window it has neither, and feeds sinks only.

        Raises
        ------
        PlanError
            A column or aggregate is not there, or two output columns have one name.

        Examples
        --------
        >>> import pandas as pd
        >>> import microstream as ms
        >>> clicks = ms.from_pandas(
        ...     pd.DataFrame({"page": ["a", "b", "a"], "ms": [30, 10, 50],
        ...                   "ts": pd.date_range("2026-01-01", periods=3, freq="1s")}),
        ...     event_time="ts")
        >>> clicks.groupby("page").window(ms.tumbling("1min")).agg(n=("ms", "size"), slowest=("ms", "max")).compute()
          page window_start          window_end  n  slowest
        0    a   2026-01-01 2026-01-01 00:01:00  2       50
        1    b   2026-01-01 2026-01-01 00:01:00  1       10
        >>> clicks.groupby("page").agg(n=("ms", "size")).compute(output_mode="complete")
          page  n
        0    a  2
        1    b  1
        """
        if unnamed or not aggregates:
            raise PlanError("agg: name at least one output column, as in agg(total=('price', 'sum')).")
        return self._aggregate(tuple(aggregate_of(name, value, self._node) for name, value in aggregates.items()))

    def size(self) -> F:
        """Number of rows per group, in column `size`."""
        return self._aggregate((Aggregate(name="size", column=None, how="size"),))

    def _aggregate(self, aggregates: tuple[Aggregate, ...]) -> F:
        return self._frame_of(self._operator(aggregates))

    def __getitem__(self, columns: str | Sequence[str]) -> SelectedGroups[F]:
        """These columns of each group, for `.sum()`, `.mean()`, ...: results under the same names.

        >>> import pandas as pd
        >>> import microstream as ms
        >>> bids = ms.from_pandas(
        ...     pd.DataFrame({"auction": [1, 1], "price": [2.0, 4.0], "ts": pd.date_range("2026-01-01", periods=2)}),
        ...     event_time="ts")
        >>> bids.groupby("auction").window(ms.tumbling("7D"))["price"].mean().compute()[["auction", "price"]]
           auction  price
        0        1    3.0
        """
        names = [columns] if isinstance(columns, str) else list(columns)
        if not names:
            raise PlanError(f"{self._text}[[]]: name at least one column.")
        for name in names:
            if name not in self._node.schema.names:
                raise PlanError.unknown_column(f"{self._text}[...]", name, self._node.schema.names)
        return SelectedGroups(self, tuple(names))

    def __iter__(self) -> NoReturn:
        raise PlanError("groups of a stream cannot be looped over. Use .agg(name=(column, how)).")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in LATER:
            raise later(self._text, name, LATER)
        if name in HOWS:
            raise PlanError(f"{self._text}.{name}: say of which columns, as in [columns].{name}().")
        raise PlanError(
            f"{self._text}.{name} is not available. Use .agg(name=(column, how)), .size() or [columns].sum(). There "
            f"are: {', '.join(HOWS)}."
        )


@dataclass(frozen=True, slots=True)
class GroupBy(Groups[F]):
    """Rows grouped by `keys`; nulls are a group of their own."""

    @property
    def _text(self) -> str:
        return "groupby(...)"

    def _operator(self, aggregates: tuple[Aggregate, ...]) -> Stateful:
        return RunningAggregate(child=self._node, keys=self._keys, aggregates=aggregates)

    def window(
        self, spec: Tumbling | Sliding, on: str | None = None, allowed_lateness: str | timedelta | None = None
    ) -> WindowedGroups[F]:
        """The groups of each window, whose results are final when it closes, or `allowed_lateness` after that.

        Parameters
        ----------
        spec
            `ms.tumbling(size)` or `ms.sliding(size, every=)`.
        on
            Event-time column; the frame's by default.
        allowed_lateness
            How long a window takes more rows after the watermark has passed its end. Its row is emitted then as ever,
            with `_revision` 0, and each batch that changes it emits it anew with the next number; so key, window and
            `_revision` come once. Only rows that come later still are in `.late`. The result feeds sinks only.

        Raises
        ------
        PlanError
            The frame has no event time, or `on` is not it, or `allowed_lateness` is no duration.

        Examples
        --------
        >>> import pandas as pd
        >>> import microstream as ms
        >>> times = pd.to_datetime(["2026-01-01 12:00:10", "2026-01-01 12:01:30", "2026-01-01 12:00:50"])
        >>> clicks = ms.from_pandas(pd.DataFrame({"page": "a", "ts": times}), event_time="ts", batches=3)
        >>> minutes = clicks.groupby("page").window(ms.tumbling("1min"), allowed_lateness="5min")
        >>> minutes.size()[["page", "window_end", "size", "_revision"]].compute()
          page          window_end  size  _revision
        0    a 2026-01-01 12:01:00     1          0
        1    a 2026-01-01 12:01:00     2          1
        2    a 2026-01-01 12:02:00     1          0
        """
        if not isinstance(spec, Tumbling | Sliding):
            raise PlanError(
                f"window({spec!r}): give a window, as in ms.tumbling('1min') or ms.sliding('1min', every='10s')."
            )
        time = on if on is not None else self._node.event_time
        if time is None:
            raise PlanError(
                f"window: this frame has no event time. Columns: {', '.join(self._node.schema.names)}. Name one at the "
                "source with event_time= or by with_watermark(column, delay), and keep it: assigning, dropping or "
                "exploding it unsets event time."
            )
        lateness_us = 0 if allowed_lateness is None else duration_us(allowed_lateness, argument="allowed_lateness")
        return WindowedGroups(self._node, self._keys, self._frame_of, spec, time, lateness_us)


@dataclass(frozen=True, slots=True)
class WindowedGroups(Groups[F]):
    """Rows grouped by `keys` and window."""

    _window: Tumbling | Sliding
    _on: str
    _lateness_us: int

    @property
    def _text(self) -> str:
        return "groupby(...).window(...)"

    def _operator(self, aggregates: tuple[Aggregate, ...]) -> Stateful:
        return WindowAggregate(
            child=self._node,
            keys=self._keys,
            window=self._window,
            on=self._on,
            aggregates=aggregates,
            lateness_us=self._lateness_us,
        )


@dataclass(frozen=True, slots=True)
class SelectedGroups(Generic[F]):
    """Some columns of rows in groups; each method gives one row per group."""

    _groups: Groups[F]
    _columns: tuple[str, ...]

    def count(self) -> F:
        """Number of values that are not null."""
        return self._each("count")

    def sum(self) -> F:
        """Sum; 0 of nothing."""
        return self._each("sum")

    def min(self) -> F:
        """Least value; null of nothing."""
        return self._each("min")

    def max(self) -> F:
        """Greatest value; null of nothing."""
        return self._each("max")

    def mean(self) -> F:
        """Mean; null of nothing."""
        return self._each("mean")

    def std(self, ddof: int = 1) -> F:
        """Standard deviation with `ddof` degrees of freedom less than there are values."""
        return self._each("std", ddof=ddof)

    def var(self, ddof: int = 1) -> F:
        """Variance with `ddof` degrees of freedom less than there are values."""
        return self._each("var", ddof=ddof)

    def any(self) -> F:
        """Whether any value is true (not 0)."""
        return self._each("any")

    def all(self) -> F:
        """Whether all values are true (not 0)."""
        return self._each("all")

    def first(self) -> F:
        """First value that is not null, in row order."""
        return self._each("first")

    def last(self) -> F:
        """Last value that is not null, in row order."""
        return self._each("last")

    def list(self) -> F:
        """All values in row order, null included."""
        return self._each("list")

    def nunique(self) -> F:
        """Number of different values, null left out."""
        return self._each("nunique")

    def _each(self, how: How, **params: Any) -> F:
        given = tuple(sorted(params.items()))
        return self._groups._aggregate(
            tuple(Aggregate(name=name, column=name, how=how, params=given) for name in self._columns)
        )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise PlanError(f"{self._groups._text}[...].{name} is not available. There are: {', '.join(HOWS)}.")
