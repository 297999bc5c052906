"""Names that are planned, and not in this version: what to use until they are.

Asked for as attributes, they raise `AbsentError` instead of a bare AttributeError. Whoever adds one removes its line.
"""

from __future__ import annotations

from collections.abc import Mapping

from microstream.errors import AbsentError

__all__ = ["CHECKPOINT", "FRAME", "GROUPS", "MODULE", "QUERY", "later"]

_WINDOWS = "ms.tumbling(size) or ms.sliding(size, every=)"
_AGGREGATE = 'groupby(keys).window(ms.tumbling("1min")).agg(name=(column, how))'
_LOOKUP = "ms.concat([a, b]) for several streams, map_batches(lambda rows: rows.merge(table)) for a pandas frame"
_LISTS = 'agg(values=(column, "list")), and map_batches(fn) on what it gives'
_NEW = "a new checkpoint, and start= at the source"

MODULE: Mapping[str, str] = {
    "session": _WINDOWS,
    "until": _WINDOWS,
    "Aggregator": f"window(spec).{_LISTS}",
}
FRAME: Mapping[str, str] = {
    "merge": _LOOKUP,
    "merge_asof": _LOOKUP,
    "join": _LOOKUP,
    "drop_duplicates": f"{_AGGREGATE} by the columns that make a row unique",
    "nlargest": _AGGREGATE,
    "nsmallest": _AGGREGATE,
    "rolling": _AGGREGATE,
    "live": "head(), or to_memory().start(), whose query is redrawn in its cell",
    "to_delta": "to_parquet(path)",
    "to_zarr": "for_each_batch(fn), where fn writes it",
}
GROUPS: Mapping[str, str] = {
    "nlargest": _LISTS,
    "nsmallest": _LISTS,
    "apply": _LISTS,
    "rolling": 'window(ms.sliding("10min", every="1min"))',
    "stateful": "a window",
}
QUERY: Mapping[str, str] = {
    "rescale": "stop(), and ms.start(..., lanes=)",
    "why": "lag(), state(operator) and the .late of a frame",
}
CHECKPOINT: Mapping[str, str] = {
    "replay": "state(operator, batch=)",
    "diff": "ms.start, which refuses what does not fit",
    "verify": "state(operator), which checks all that it reads",
    "pin": 'ms.start(..., retain="7D")',
    "restore": _NEW,
    "fork": _NEW,
    "gc": "nothing: the query that runs does it",
}


def later(what: str, name: str, table: Mapping[str, str]) -> AbsentError:
    """What to raise for `name` of `what`, which is one of `table`.

    >>> print(later("a query", "rescale", QUERY))
    a query has no .rescale in this version. Instead: stop(), and ms.start(..., lanes=).
    """
    return AbsentError(f"{what} has no .{name} in this version. Instead: {table[name]}.")
