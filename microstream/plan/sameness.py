"""Which values of two columns are the same: null as null, NaN as NaN, lists and structs by what they hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["same_values"]

Truths = npt.NDArray[np.bool_]


def same_values(left: Any, right: Any) -> Truths:
    """Whether value i of `left` and value i of `right`, two columns of one type, are the same.

    >>> same_values(pa.array([1, None, 3]), pa.array([1, None, None]))
    array([ True,  True, False])
    """
    left, right = _whole(left), _whole(right)
    kind = left.type
    if pa.types.is_struct(kind):
        inside = np.ones(len(left), np.bool_)
        for one, other in zip(left.flatten(), right.flatten(), strict=True):
            inside &= same_values(one, other)
    elif pa.types.is_map(kind):
        entries = pa.list_(pa.struct([kind.key_field, kind.item_field]))
        return same_values(left.cast(entries), right.cast(entries))
    elif pa.types.is_nested(kind):
        inside = _same_lists(left, right)
    elif pa.types.is_null(kind):
        return np.ones(len(left), np.bool_)
    else:
        inside = _truths(pc.equal(left, right))
        if pa.types.is_floating(kind):
            inside |= _truths(pc.is_nan(left)) & _truths(pc.is_nan(right))
    missing, others = _truths(left.is_null()), _truths(right.is_null())
    return np.where(missing | others, missing & others, inside)


def _same_lists(left: Any, right: Any) -> Truths:
    lengths, others = (_whole(pc.list_value_length(side)).fill_null(0).to_numpy() for side in (left, right))
    same: Truths = lengths == others
    alike = pa.array(same)
    left, right = left.filter(alike), right.filter(alike)
    # Null lists count as empty here.
    different = ~same_values(left.flatten(), right.flatten())
    owners = np.repeat(np.flatnonzero(same), lengths[same])
    same[owners[different]] = False
    return same


def _truths(values: Any) -> Truths:
    filled: Truths = _whole(values).fill_null(False).to_numpy(zero_copy_only=False)
    return filled


def _whole(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
