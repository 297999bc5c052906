"""Fields that no record has: misspelt in `schema=`, more often than not."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pyarrow as pa

from microstream.errors import did_you_mean

__all__ = ["absent_fields"]


def absent_fields(rows: pa.Table, message: bytes) -> Iterator[str]:
    """A sentence per column that is null in all `rows`, if `message`, one of their records, has one nearly so called.

    Where nothing is like it the field may be rare, and nothing is said.

    >>> rows = pa.table({"k": [1, 2], "prise": pa.nulls(2)})
    >>> list(absent_fields(rows, b'{"k": 1, "price": 7}'))
    ["field 'prise' is null in the first 2 records. Did you mean 'price' in schema=?"]
    """
    empty = [name for name in rows.column_names if rows.column(name).null_count == rows.num_rows]
    if not empty:
        return
    try:
        document = orjson.loads(message)
    except orjson.JSONDecodeError:
        return
    if not isinstance(document, dict):
        return
    others = document.keys() - set(rows.column_names)
    for name in empty:
        hint = "" if name in document else did_you_mean(name, others, " in schema=")
        if hint:
            yield f"field {name!r} is null in the first {rows.num_rows} records.{hint}"
