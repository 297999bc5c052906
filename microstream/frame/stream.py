"""StreamFrame: what a user holds. Every method adds one node to an immutable plan and returns a new frame."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Never, NoReturn, overload

import pandas as pd

from microstream.errors import PlanError
from microstream.frame.absent import absent
from microstream.frame.aggregates import Wanted
from microstream.frame.binding import Binding
from microstream.frame.columns import Column, column_name
from microstream.frame.grouped import GroupBy, WindowedGroups
from microstream.frame.outputs import Outputs
from microstream.frame.results import head_of
from microstream.frame.run import explain_node, results_of
from microstream.frame.steps import Steps
from microstream.plan.expr import Column as Named
from microstream.plan.nodes import Late, RunningAggregate, Sliding, Stateful, Tumbling, WindowAggregate
from microstream.plan.specs import OutputMode

__all__ = ["StreamFrame"]


class StreamFrame(Steps, Outputs):
    """An unbounded data frame: a plan of what to do with rows as they arrive. Immutable, and without an index.

    Made by `ms.read_kafka` or `ms.from_pandas`. Columns are `frame["x"]`, `frame.x` (where no method has that name)
    or, for any frame, `ms.col("x")`.

    Examples
    --------
    >>> import pandas as pd
    >>> import microstream as ms
    >>> bids = ms.from_pandas(pd.DataFrame({"auction": [1, 2, 1], "price": [120.0, 80.0, 300.0]}))
    >>> bids[bids["price"] > 100].assign(eur=ms.col("price") * 0.5).compute()
       auction  price    eur
    0        1  120.0   60.0
    1        1  300.0  150.0
    """

    __slots__ = ()

    @property
    def late(self) -> StreamFrame:
        """Rows that came too late for the aggregate which this frame is the result of.

        They carry `_operator`, `_watermark` and `_window_end`, and may go to any sink, but into no other aggregate.

        Raises
        ------
        PlanError
            The frame is not directly the result of an aggregate, or of one without a window, for which no row is late.
        """
        operator = self._operator(".late")
        if isinstance(operator, RunningAggregate):
            raise PlanError(".late: an aggregate without a window takes every row, however late, so it has none.")
        return StreamFrame(Late(operator=operator))

    def named(self, id: str) -> StreamFrame:
        """Give the aggregate an id, by which it finds its state again after the query was changed.

        Parameters
        ----------
        id
            Letters, digits, "_", "-" and "."; unique in the query.
        """
        if not isinstance(id, str) or not re.fullmatch(r"[A-Za-z0-9_.-]+", id):
            raise PlanError(f"named({id!r}): an id has letters, digits, '_', '-' and '.', and at least one of them.")
        return StreamFrame(replace(self._operator(".named()"), id=id))

    def groupby(self, by: str | Column | Iterable[str | Column]) -> GroupBy[StreamFrame]:
        """Rows by key, for `.window(...).agg(...)`, or `.agg(...)` over all rows until now.

        Null keys are a group of their own.
        """
        several = isinstance(by, Iterable) and not isinstance(by, str | Column)
        keys = [column_name(key, self._node, "groupby") for key in (by if several else [by])]
        if not keys:
            raise PlanError("groupby: name at least one key column.")
        self._require("groupby", keys)
        return GroupBy(self._node, tuple(keys), StreamFrame)

    def window(
        self, spec: Tumbling | Sliding, on: str | None = None, allowed_lateness: str | timedelta | None = None
    ) -> WindowedGroups[StreamFrame]:
        """All rows of each window as one group, for `.agg(...)`; see `GroupBy.window`."""
        return GroupBy(self._node, (), StreamFrame).window(spec, on, allowed_lateness)

    def agg(self, *unnamed: Never, **aggregates: Wanted) -> StreamFrame:
        """One row over all rows until now, emitted whenever it changed; see `GroupBy.agg`.

        Examples
        --------
        >>> import pandas as pd
        >>> import microstream as ms
        >>> bids = ms.from_pandas([pd.DataFrame({"price": [3.0, 1.0]}), pd.DataFrame({"price": [2.0]})])
        >>> bids.agg(n=("price", "size"), highest=("price", "max")).compute()
           n  highest  _batch
        0  2      3.0       0
        1  3      3.0       1
        """
        return GroupBy(self._node, (), StreamFrame).agg(*unnamed, **aggregates)

    def head(self, n: int = 5) -> pd.DataFrame:
        """The first `n` rows, in the order in which they come: a look at what a plan gives, in this process.

        Sources are read from their earliest record, unless they say otherwise. One that never ends is waited for 10
        seconds at most, or until nothing new has come for one; what was read by then counts as all input, so that open
        windows close.

        Returns
        -------
        pandas.DataFrame
            At most `n` rows; dtypes as `dtypes`.

        Raises
        ------
        ConnectorError
            A source did not answer in that time.
        UserFunctionError
            A function of the plan failed.

        Examples
        --------
        >>> import pandas as pd
        >>> import microstream as ms
        >>> ms.from_pandas(pd.DataFrame({"n": [3, 1, 2]})).assign(twice=ms.col("n") * 2).head(2)
           n  twice
        0  3      6
        1  1      2
        """
        return head_of(self._node, n)

    def compute(self, output_mode: OutputMode | None = None) -> pd.DataFrame:
        """Run over finite input to its end, in this process, and return all rows.

        Parameters
        ----------
        output_mode
            "append", the default where there are such: rows that are final, each once. "update", the default for an
            aggregate without a window: rows whose value changed, with the batch in which they did, which depends on how
            the input is cut. "complete": the result of an aggregate as it is at the end.

        Returns
        -------
        pandas.DataFrame
            Sorted by event time, then keys, then all columns; dtypes as `dtypes`. Of output mode "update" with a column
            `_batch` more, by which rows of equal keys are sorted.

        Raises
        ------
        PlanError
            A source never ends, or the frame has no rows of that mode.
        UserFunctionError
            A function of the plan failed.
        """
        return results_of((self._node,), output_mode)[0]

    def explain(self) -> str:
        """The compiled plan as text: stages, exchanges, windows and guarantees. Print it."""
        return explain_node(self._node)

    @overload
    def __getitem__(self, key: str) -> Column: ...
    @overload
    def __getitem__(self, key: list[str] | tuple[str, ...] | pd.Index | Any) -> StreamFrame: ...
    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            self._require("frame[...]", [key])
            return Column(Named(key), (Binding(self._node, key),))
        if isinstance(key, list | tuple | pd.Index) and all(isinstance(name, str) for name in key):
            return self.select(list(key))
        if isinstance(key, slice | int):
            raise absent("iloc", self.schema.names, [])
        return self.filter(key)

    def __getattr__(self, name: str) -> Column:
        if name != "_node" and name in self._node.schema.names:
            return self[name]
        methods = [one for one in dir(type(self)) if not one.startswith("_") and callable(getattr(type(self), one))]
        raise absent(name, [] if name == "_node" else self._node.schema.names, methods)

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise PlanError(
            f"a stream is immutable: write frame = frame.assign({key}=...) instead of frame[{key!r}] = ...."
        )

    def __len__(self) -> int:
        raise PlanError("a stream has no length: count rows of a window, as in groupby(keys).window(spec).size().")

    def __iter__(self) -> NoReturn:
        raise PlanError("a stream cannot be looped over. Use frame.columns for names, map_batches(fn) for rows.")

    def __bool__(self) -> bool:
        raise PlanError("a stream is neither true nor false.")

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._node.schema.names})

    def __repr__(self) -> str:
        time = f", event time {self.event_time}" if self.event_time else ""
        return f"<StreamFrame [{', '.join(f'{n}: {d}' for n, d in self.dtypes.items())}]{time}>"

    def _operator(self, what: str) -> Stateful:
        if not isinstance(self._node, WindowAggregate | RunningAggregate):
            raise PlanError(f"{what} belongs to the frame that .agg() or .size() returns: take it before other steps.")
        return self._node
