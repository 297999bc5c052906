"""What to compute of each group: `(column, how)`, `pd.NamedAgg`, or `ms.agg(...)` where that is not enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa

from microstream.errors import PlanError
from microstream.frame.columns import resolve
from microstream.plan.aggregates import HOWS, Aggregate, How
from microstream.plan.infer import infer_column
from microstream.plan.nodes import Node

__all__ = ["Aggregation", "Wanted", "agg", "aggregate_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Aggregation:
    """One output column of `.agg(...)`, made by `ms.agg`."""

    column: str
    how: How
    where: Any
    params: tuple[tuple[str, Any], ...]


Wanted: TypeAlias = tuple[str, How] | pd.NamedAgg | Aggregation
"""What `.agg(name=...)` takes."""


def agg(column: str, how: How, *, where: Any = None, **params: Any) -> Aggregation:
    """One output column of `.agg(name=ms.agg(...))`: of a frame, of `groupby(...)`, or of its windows.

    Parameters
    ----------
    column
        Input column.
    how
        One of count (not null), size (all rows), sum, min, max, mean, std, var, any, all, first, last (not null, in
        row order: by event time, then source, topic, partition and offset), list (all values in row order, null
        included), nunique. `list` and `nunique` keep every (different) value until the window closes, without a window
        for ever.
    where
        Only rows for which this is true; null counts as false. A condition on columns, a callable that is given the
        pandas frame of a batch, or a `pandas.col`. A group without such rows is still there: its sum is 0, its mean
        null.
    **params
        `ddof` of std and var, 1 by default.

    Raises
    ------
    PlanError
        `how` or a parameter is not known, when it is given to `.agg()`.

    Examples
    --------
    >>> import pandas as pd
    >>> import microstream as ms
    >>> clicks = ms.from_pandas(
    ...     pd.DataFrame({"page": ["a", "a", "a"], "ms": [30, 10, 50], "ok": [True, False, True],
    ...                   "ts": pd.date_range("2026-01-01", periods=3, freq="1s")}),
    ...     event_time="ts")
    >>> minutes = clicks.groupby("page").window(ms.tumbling("1min"))
    >>> minutes.agg(best=ms.agg("ms", "min", where=ms.col("ok")), spread=ms.agg("ms", "std", ddof=0)).compute()
      page window_start          window_end  best     spread
    0    a   2026-01-01 2026-01-01 00:01:00    30  16.329932
    """
    return Aggregation(column=column, how=how, where=where, params=_params(params))


def aggregate_of(name: str, wanted: Wanted, node: Node) -> Aggregate:
    """Output column `name` of the rows of `node`.

    Raises
    ------
    PlanError
        `wanted` is something else, or its `where` is not true or false.
    """
    match wanted:
        case pd.NamedAgg(column=str() as column, aggfunc=str() as how) if not getattr(wanted, "args", ()):
            return Aggregate(name=name, column=column, how=how, params=_params(getattr(wanted, "kwargs", {})))
        case (str() as column, str() as how):
            return Aggregate(name=name, column=column, how=how)
        case Aggregation(column=str() as column, how=str() as how):
            where = None if wanted.where is None else resolve(wanted.where, node, "agg")
            if where is not None:
                found = infer_column(where, node.schema, "where", "agg")
                if not pa.types.is_boolean(found.type):
                    raise PlanError(f"agg: where={where} gives {found.type}, not true or false. Compare it.")
            return Aggregate(name=name, column=column, how=how, where=where, params=wanted.params)
        case _:
            raise PlanError(
                f"agg({name}={wanted!r}): give a column and what to do with it, as in {name}=('price', 'sum') or "
                f"{name}=ms.agg('price', 'sum', where=ms.col('paid')). There are: {', '.join(HOWS)}."
            )


def _params(named: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(named.items()))
