"""The key hash that assigns keys to lanes. It is part of the stored format: see `HASH_ID` and `GOLDEN`.

The hash only finds candidates. Identity is always the key columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from microstream.errors import PlanError

__all__ = ["GOLDEN", "HASH_BITS", "HASH_ID", "NULL_HASH", "Hashes", "check_keys", "hash_keys"]

Hashes: TypeAlias = npt.NDArray[np.uint64]
_Column: TypeAlias = "pa.ChunkedArray[Any]"
_Canonical: TypeAlias = "Callable[[_Column], _Column]"

HASH_ID = "pandas-hash-array-v1"
HASH_BITS = 64
NULL_HASH = 0x9E3779B97F4A7C15
"""Hash of a null key (and of NaN, which is null) of any type: 2**64 / golden ratio."""

GOLDEN: tuple[tuple[str | int, int], ...] = (
    ("user-000000000001", 82967461335765856),
    (1, 6238072747940578789),
)
"""Keys and their hashes, for every implementation to check itself with."""

_FIRST, _FACTOR, _FACTOR_STEP, _LAST = 0x345678, 1000003, 82520, 97531
"""Constants of Python's tuple hash before 3.8, which pandas uses to combine columns."""


def hash_keys(table: pa.Table, keys: Sequence[str], *, bits: int = HASH_BITS) -> Hashes:
    """Hash of each row's key, uint64.

    Equal keys of different width hash alike (int32 and int64, any time unit, string and large_string): values
    are brought to a canonical type first. One key column gives the hash of the value itself, several are
    combined as `pandas.util.hash_pandas_object` does, none gives 0.

    Parameters
    ----------
    table
        Rows; hash after partial aggregation, because text costs 160 ns per distinct value.
    keys
        Names of the key columns.
    bits
        How many of the high bits to keep, 0 to 64: fewer let tests force collisions.

    Raises
    ------
    PlanError
        A key column has a type without a canonical form.

    Examples
    --------
    >>> hash_keys(pa.table({"k": pa.array([1], pa.int32())}), ["k"])
    array([6238072747940578789], dtype=uint64)
    """
    hashed = [_hash_column(table.column(key), key) for key in keys]
    if not hashed:
        return np.zeros(table.num_rows, np.uint64)
    combined = hashed[0] if len(hashed) == 1 else _combine(hashed)
    return combined if bits == HASH_BITS else combined & np.uint64(2**HASH_BITS - 2 ** (HASH_BITS - bits))


def check_keys(schema: pa.Schema, keys: Sequence[str], *, where: str = "groupby") -> None:
    """Raise PlanError unless every column of `keys` has a type that can be hashed."""
    for key in keys:
        _canonical(schema.field(key).type, key, where)


def _combine(hashed: Sequence[Hashes]) -> Hashes:
    """As pandas combines columns, with wrapping 64-bit arithmetic."""
    out = np.full(len(hashed[0]), _FIRST, np.uint64)
    factor = _FACTOR
    for at, column in enumerate(hashed):
        out = (out ^ column) * np.uint64(factor)
        factor += _FACTOR_STEP + 2 * (len(hashed) - at)
    return out + np.uint64(_LAST)


def _hash_column(column: _Column, key: str) -> Hashes:
    """Null gets `NULL_HASH`; text is hashed once per distinct value."""
    values: Any = _canonical(column.type, key, "groupby")(column).combine_chunks()
    if pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type):
        encoded = values.dictionary_encode()
        distinct = encoded.dictionary.to_numpy(zero_copy_only=False)
        hashes = np.append(pd.util.hash_array(distinct, categorize=False), np.uint64(NULL_HASH))
        positions: npt.NDArray[np.int32] = encoded.indices.fill_null(len(distinct)).to_numpy()
        return hashes[positions]
    if not values.null_count:
        return pd.util.hash_array(values.to_numpy(), categorize=False)
    hashes = pd.util.hash_array(values.fill_null(0).to_numpy(), categorize=False)
    null = values.is_null().to_numpy(zero_copy_only=False)
    return np.where(null, np.uint64(NULL_HASH), hashes)


def _canonical(kind: pa.DataType, key: str, where: str) -> _Canonical:
    """How to bring a key column to int64, float64, large_string or large_binary."""
    is_ = pa.types
    if is_.is_integer(kind) or is_.is_boolean(kind):
        return lambda column: column.cast(pa.int64(), safe=False)
    if is_.is_floating(kind):
        return _canonical_float
    if is_.is_string(kind) or is_.is_large_string(kind) or is_.is_decimal(kind):
        return lambda column: column.cast(pa.large_string())
    if is_.is_binary(kind) or is_.is_large_binary(kind) or is_.is_fixed_size_binary(kind):
        return lambda column: column.cast(pa.large_binary())
    if is_.is_date(kind):
        return lambda column: column.cast(pa.date32()).cast(pa.int32()).cast(pa.int64())
    if (micro := _microseconds(kind)) is not None:
        return lambda column: column.cast(micro, safe=False).cast(pa.int64())
    raise PlanError(
        f"{where}: column {key!r} has type {kind}, which cannot be a key. Use a number, text, time, date, "
        "decimal, binary or boolean column, or take one out of it, as in ms.col('x').struct.field('id').",
        column=key,
    )


def _canonical_float(column: _Column) -> _Column:
    """float64, null for NaN, and one zero: adding 0.0 makes 0.0 of -0.0, equal but of other bits."""
    values = pc.add(column.cast(pa.float64()), 0.0)
    without: _Column = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
    return without


def _microseconds(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", tz=kind.tz)
    if pa.types.is_duration(kind):
        return pa.duration("us")
    return pa.time64("us") if pa.types.is_time(kind) else None
