"""Rows by key: `frame.groupby(keys).window(spec).agg(...)`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

from microstream.errors import PlanError
from microstream.plan.nodes import HOWS, Aggregate, Node, Tumbling, WindowAggregate

__all__ = ["GroupBy", "WindowedGroups"]

F = TypeVar("F")
"""The kind of frame that comes out: grouping knows how to make one, not what it can do."""

_NO_WINDOW = (
    "groupby without a window is not available: say when a result is final, as in "
    '.groupby(keys).window(ms.tumbling("1min"))'
)


@dataclass(frozen=True, slots=True)
class GroupBy(Generic[F]):
    """Rows grouped by `keys`; nulls are a group of their own."""

    _node: Node
    _keys: tuple[str, ...]
    _frame_of: Callable[[Node], F]

    def window(self, spec: Tumbling, on: str | None = None) -> WindowedGroups[F]:
        """The groups of each window.

        Parameters
        ----------
        spec
            `ms.tumbling(size)`.
        on
            Event-time column; the frame's by default.

        Raises
        ------
        PlanError
            The frame has no event time, or `on` is not it.
        """
        if not isinstance(spec, Tumbling):
            raise PlanError(f"window({spec!r}): give a window, as in ms.tumbling('1min').")
        time = on if on is not None else self._node.event_time
        if time is None:
            raise PlanError(
                f"window: this frame has no event time. Columns: {', '.join(self._node.schema.names)}. Name one at the "
                "source with event_time= or by with_watermark(column, delay), and keep it: assigning, dropping or "
                "exploding it unsets event time."
            )
        return WindowedGroups(self._node, self._keys, spec, time, self._frame_of)

    def agg(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: name a window first."""
        raise PlanError(f"{_NO_WINDOW}.agg(...).")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise PlanError(f"groupby(...).{name}: {_NO_WINDOW}.agg(name=(column, how)) or .size().")


@dataclass(frozen=True, slots=True)
class WindowedGroups(Generic[F]):
    """Rows grouped by `keys` and window."""

    _node: Node
    _keys: tuple[str, ...]
    _window: Tumbling
    _on: str
    _frame_of: Callable[[Node], F]

    def agg(self, **aggregates: tuple[str, str]) -> F:
        """One row per key and window, emitted once, when the watermark has passed the window's end.

        Parameters
        ----------
        **aggregates
            Output column = (input column, how); how is one of count (not null), size (all rows), sum, min, max, mean.

        Returns
        -------
        StreamFrame
            Keys, `window_start`, `window_end` (naive UTC `datetime64[us]`), aggregates. Its event time is
            `window_end`; its `.late` holds the rows that came after their window closed.

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
        """
        if not aggregates:
            raise PlanError("agg: name at least one output column, as in agg(total=('price', 'sum')).")
        return self._aggregate(tuple(_aggregate(name, value) for name, value in aggregates.items()))

    def size(self) -> F:
        """Number of rows per key and window, in column `size`."""
        return self._aggregate((Aggregate(name="size", column=None, how="size"),))

    def _aggregate(self, aggregates: tuple[Aggregate, ...]) -> F:
        return self._frame_of(
            WindowAggregate(child=self._node, keys=self._keys, window=self._window, on=self._on, aggregates=aggregates)
        )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise PlanError(f"groupby(...).window(...).{name} is not available. Use .agg(name=(column, how)) or .size().")


def _aggregate(name: str, value: Any) -> Aggregate:
    match value:
        case (str() as column, str() as how):
            return Aggregate(name=name, column=column, how=how)
        case _:
            raise PlanError(
                f"agg({name}={value!r}): give a column and what to do with it, as in {name}=('price', 'sum'). "
                f"There are: {', '.join(HOWS)}."
            )
