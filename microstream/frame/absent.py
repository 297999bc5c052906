"""Names of `pandas.DataFrame` that a stream cannot have, and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from microstream.errors import PlanError

__all__ = ["absent"]

_WINDOW = 'groupby(keys).window(ms.tumbling("1min")).agg(name=(column, how))'
_BATCH = "map_batches(fn), which sees one batch at a time"
_BOUNDED = "a sink, or compute() where the input is finite"

_REPLACEMENTS: Mapping[str, str] = {
    "resample": f"{_WINDOW} (windows without rows give no row)",
    "rolling": _WINDOW,
    "expanding": _WINDOW,
    "sort_values": "nothing: rows of a stream have no order among batches; compute() sorts by event time",
    "sort_index": "nothing: a stream has no index",
    "apply": f"assign(name=expression) or {_BATCH}",
    "applymap": "assign(name=expression)",
    "iloc": f"[mask] for rows by condition, {_BOUNDED}",
    "loc": "[mask] for rows, [columns] for columns",
    "at": "[mask]",
    "iat": "[mask]",
    "index": "key columns: a stream has no index",
    "set_index": "groupby(keys): a stream has no index",
    "reset_index": "nothing: a stream has no index",
    "shape": _BOUNDED,
    "values": _BOUNDED,
    "to_numpy": _BOUNDED,
    "iterrows": _BATCH,
    "itertuples": _BATCH,
    "items": "frame.columns",
    "describe": _WINDOW,
    "head": _BOUNDED,
    "tail": _BOUNDED,
    "append": "ms.concat([a, b])",
    "insert": "assign(name=expression)",
    "to_csv": "to_parquet(path), or for_each_batch(fn), which is called with pandas frames",
    **dict.fromkeys(("sum", "mean", "min", "max", "count", "agg", "aggregate", "size", "std", "var"), _WINDOW),
    **dict.fromkeys(("shift", "diff", "cumsum", "cumprod", "cummax", "cummin", "rank", "pct_change"), _BATCH),
}


def absent(name: str, columns: list[str]) -> Exception:
    """What to raise for the attribute `name`, which is neither a method nor one of `columns`."""
    if name.startswith("_"):
        return AttributeError(f"StreamFrame has no attribute {name!r}")
    if name in _REPLACEMENTS:
        return PlanError(f"a stream has no .{name}. Instead: {_REPLACEMENTS[name]}.")
    if hasattr(pd.DataFrame, name):
        return PlanError(f"a stream has no .{name}. Row by row: assign(); over a time span: {_WINDOW}.")
    return AttributeError(str(PlanError.unknown_column(f"frame.{name}", name, columns)))
