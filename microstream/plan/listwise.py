"""What `.str` does to lists, as in pandas: `.str.split(" ").str[0]`, `.str.len()`, `.str.join("-")`; all by Arrow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from microstream.plan.dtypes import WrongColumnsError, dtype_of
from microstream.plan.kernels import Vector

__all__ = ["on_lists"]

Ints = npt.NDArray[np.int64]


def on_lists(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Vector | None:
    """`args[0].str.<name>(...)`, where `args[0]` is a column of lists; None where it is something else.

    Raises
    ------
    WrongColumnsError
        The member is only for text.

    >>> words = Vector(pa.array([["a", "b"], [], None], pa.list_(pa.large_string())), "")
    >>> on_lists("get", [words, -1], {}).array.to_pylist()
    ['b', None, None]
    """
    subject, *rest = args
    lists = _lists_of(subject)
    if lists is None:
        return None
    member = _MEMBERS.get(name)
    if member is None:
        raise WrongColumnsError(
            f".str.{name} is for text, and these are lists, which have .str[0], .str[1:], .str.get(), .str.len() and "
            ".str.join(). To change each text use explode(), or change it before it is split"
        )
    found = member(lists, *rest, **kwargs)
    return Vector(found, str(dtype_of(pa.field(name, found.type))))


def _lists_of(column: Any) -> Any:
    """The lists of a column as one array; None if it holds something else."""
    if isinstance(column, pd.Series) and isinstance(column.dtype, pd.ArrowDtype):
        array: Any = pa.array(column)
    elif isinstance(column, Vector):
        array = column.array
    else:
        return None
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        return None
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _get(lists: Any, i: Any) -> Any:
    """The element at `i`, from the end where it is negative; null where the list is too short."""
    at = _whole("get", i)
    firsts, lengths = _bounds(lists)
    within = lengths > at if at >= 0 else lengths >= -at
    places = firsts + (at if at >= 0 else lengths + at)
    return lists.values.take(pa.array(places, mask=~within))


def _slice(lists: Any, start: Any = None, stop: Any = None, step: Any = None) -> Any:
    """The elements that `list[start:stop:step]` has."""
    wanted = slice(*(None if bound is None else _whole("slice", bound) for bound in (start, stop, step)))
    firsts, lengths = _bounds(lists)
    # Few lengths are different: Python's own rules are asked once for each.
    different, which = np.unique(lengths, return_inverse=True)
    taken = [range(*wanted.indices(length)) for length in different.tolist()]
    counts = np.array([len(part) for part in taken], np.int64)[which]
    begins = firsts + np.array([part.start for part in taken], np.int64)[which]
    ends = np.cumsum(counts)
    inside = np.arange(counts.sum()) - np.repeat(ends - counts, counts)
    places = np.repeat(begins, counts) + inside * (wanted.step or 1)
    return _made(lists, np.concatenate([[0], ends]), lists.values.take(pa.array(places)))


def _len(lists: Any) -> Any:
    return pc.list_value_length(lists).cast(pa.int64())


def _join(lists: Any, sep: Any) -> Any:
    """The texts of a list with `sep` in between; null if one of them is null."""
    if not pa.types.is_large_string(lists.type.value_type):
        raise WrongColumnsError(f".str.join joins texts, but these are {lists.type}")
    if not isinstance(sep, str):
        raise WrongColumnsError(f".str.join({sep!r}): give the text that goes in between")
    return pc.binary_join(lists, pa.scalar(sep, lists.type.value_type))


_MEMBERS: Mapping[str, Callable[..., Any]] = {"get": _get, "slice": _slice, "len": _len, "join": _join}


def _bounds(lists: Any) -> tuple[Ints, Ints]:
    """Place of the first element of each list in `lists.values`, and how many it has; none where it is null."""
    offsets = lists.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return offsets[:-1], lengths


def _made(like: Any, offsets: Ints, values: Any) -> Any:
    """Lists of the type of `like`, null where it is."""
    kind, large = like.type, pa.types.is_large_list(like.type)
    build: Any = pa.LargeListArray if large else pa.ListArray
    bounds = pa.array(offsets, pa.int64() if large else pa.int32())
    return build.from_arrays(bounds, values, type=kind, mask=pc.is_null(like) if like.null_count else None)


def _whole(member: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise WrongColumnsError(f".str.{member}: {value!r} is not the place of an element, which is a whole number")
    return int(value)
