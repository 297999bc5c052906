"""From the columns that a format holds to those a schema asks for, whole columns at a time.

What does not fit is masked per value, and makes its record bad. A mask is one bool per row; None: all is well.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microstream.errors import PlanError
from microstream.formats.event_time import note_event_times
from microstream.formats.masks import Mask, as_mask, either, note

__all__ = ["check_fit", "fitted"]

TIME = pa.timestamp("us")
DAYTIME = pa.time64("us")
DAY_US = 86_400_000_000
EPOCHS: dict[str, pa.DataType] = {
    "epoch[s]": pa.timestamp("s"),
    "epoch[ms]": pa.timestamp("ms"),
    "epoch[us]": TIME,
    "epoch[ns]": pa.timestamp("ns"),
}


def check_fit(where: str, held: pa.Schema, wanted: pa.Schema) -> None:
    """Raise PlanError where a column of `wanted` cannot be made of what a record holds; missing ones are null."""
    for field in wanted:
        if field.name in held.names:
            have = held.field(field.name).type
            try:
                _convert(pa.array([], have), field)
            except (pa.ArrowException, TypeError) as problem:
                raise PlanError(
                    f"{where}: column {field.name!r} is declared {field.type}, but records hold {have}. Declare a type "
                    "that fits."
                ) from problem


def fitted(
    held: pa.Table, wanted: pa.Schema, event_time: str | None, latest_us: int | None
) -> tuple[pa.Table, dict[int, str]]:
    """`held` as a table of `wanted`, columns by name and missing ones null; and the rows that do not fit, with why."""
    columns: list[Any] = []
    broken: dict[int, str] = {}
    for field in wanted:
        if field.name in held.column_names:
            values: Any = held.column(field.name).combine_chunks()
        else:
            values = pa.nulls(held.num_rows, field.type)
        settled, mask = _settled(values, field)
        columns.append(settled)
        note(broken, mask, partial(_fault, field, values))
        if field.name == event_time:
            note_event_times(broken, field.name, settled, latest_us)
    if not columns:  # a table without columns would forget how many rows it has
        return pa.table({"row": pa.nulls(held.num_rows)}).select([]), broken
    return pa.Table.from_arrays(columns, schema=wanted), broken


def _fault(field: pa.Field[Any], values: Any, row: int) -> str:
    if not values[row].is_valid:
        return f"{field.name} is null or missing, but declared not null"
    try:
        shown = repr(values[row].as_py())
    except (ValueError, OverflowError):  # a time that Python does not have
        shown = str(values.slice(row, 1))
    return f"{field.name} is {shown if len(shown) <= 60 else shown[:60] + '…'}, not {field.type}"


def _settled(values: Any, field: pa.Field[Any]) -> tuple[Any, Mask]:
    """`values` in the type of `field`, and which of them break its rules, at any depth."""
    try:
        settled, mask = _convert(values, field), None
    except pa.ArrowException:
        settled, mask = _one_by_one(values, field)
    return settled, either(mask, _forbidden(settled, field))


def _one_by_one(values: Any, field: pa.Field[Any]) -> tuple[Any, Mask]:
    """The slow way, for a block that holds a value out of range: that value is null and masked."""
    mask = np.zeros(len(values), bool)
    parts = []
    for at in range(len(values)):
        try:
            parts.append(_convert(values.slice(at, 1), field))
        except pa.ArrowException:
            parts.append(pa.nulls(1, field.type))
            mask[at] = True
    return pa.concat_arrays(parts), mask


def _convert(values: Any, field: pa.Field[Any]) -> Any:
    """Raises ArrowException for a value that does not fit, TypeError for a type that does not."""
    have: Any = values.type
    kind: Any = field.type
    if pa.types.is_null(have):
        return pa.nulls(len(values), kind)
    if have == kind and not pa.types.is_nested(kind):
        return _without_nan(values)
    if pa.types.is_struct(kind) and pa.types.is_struct(have):
        return _convert_struct(values, kind)
    if (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_list(have):
        return _convert_list(values, kind)
    if kind == TIME and pa.types.is_integer(have):
        return _times_of_numbers(values, field)
    if kind == TIME and pa.types.is_timestamp(have):
        utc = values.cast(pa.timestamp(have.unit, "UTC")) if have.tz else values
        return utc.cast(TIME, safe=have.unit != "ns")
    if pa.types.is_floating(kind) and (pa.types.is_floating(have) or pa.types.is_integer(have)):
        return _without_nan(values.cast(kind, safe=False))
    if _family(have) != _family(kind):
        raise TypeError(f"{have} is not {kind}")
    return values.cast(kind)


def _without_nan(values: Any) -> Any:
    if not pa.types.is_floating(values.type):
        return values
    nan = pc.is_nan(values)
    return pc.if_else(nan, pa.scalar(None, values.type), values) if pc.any(nan).as_py() else values


def _convert_struct(values: Any, kind: Any) -> Any:
    have: Any = values.type
    names = [have.field(at).name for at in range(have.num_fields)]
    held = dict(zip(names, values.flatten(), strict=True))
    children = [
        _convert(held[child.name], child) if child.name in held else pa.nulls(len(values), child.type) for child in kind
    ]
    return pa.StructArray.from_arrays(children, fields=list(kind), mask=pc.is_null(values))


def _convert_list(values: Any, kind: Any) -> Any:
    items = _convert(values.flatten(), kind.value_field)
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
    large = pa.types.is_large_list(kind)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64() if large else pa.int32())
    make: Any = pa.LargeListArray.from_arrays if large else pa.ListArray.from_arrays
    return make(offsets, items, kind, mask=pc.is_null(values))


def _times_of_numbers(values: Any, field: pa.Field[Any]) -> Any:
    said = (field.metadata or {}).get(b"microstream", b"").decode()
    if said not in EPOCHS:
        raise TypeError("a number is a time only where the schema says epoch[...]")
    numbers = values.cast(pa.int64())
    if said == "epoch[ns]":
        floored = pc.fill_null(numbers, 0).to_numpy(zero_copy_only=False) // 1000
        return pa.array(floored, mask=pc.is_null(numbers).to_numpy(zero_copy_only=False)).view(TIME)
    return numbers.view(EPOCHS[said]).cast(TIME)


def _forbidden(values: Any, field: pa.Field[Any]) -> Mask:
    """Which values of `field` are null where it is declared not null, or no time of day, at any depth."""
    mask: Mask = None
    if not field.nullable and values.null_count:
        mask = as_mask(pc.is_null(values))
    kind: Any = field.type
    if kind == DAYTIME:
        micros = pc.fill_null(values.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
        outside = (micros < 0) | (micros >= DAY_US)
        mask = either(mask, outside if outside.any() else None)
    if pa.types.is_struct(kind):
        present = ~as_mask(pc.is_null(values))
        for child, held in zip(kind, values.flatten(), strict=True):
            inner = _forbidden(held, child)
            mask = mask if inner is None else either(mask, inner & present)
    elif _is_list(kind):
        inner = _forbidden(values.flatten(), kind.value_field)
        if inner is not None:
            lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
            holds = np.zeros(len(values), bool)
            holds[np.repeat(np.arange(len(values)), lengths)[inner]] = True
            mask = either(mask, holds)
    return mask


def _family(kind: pa.DataType) -> str:
    """Types that may be cast into one another where nothing is lost."""
    for name, belongs in FAMILIES:
        if belongs(kind):
            return name
    return str(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return any(of(kind) for of in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary))


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


FAMILIES: tuple[tuple[str, Any], ...] = (
    ("integer", pa.types.is_integer),
    ("text", _is_text),
    ("bytes", _is_bytes),
    ("decimal", pa.types.is_decimal),
    ("date", pa.types.is_date),
    ("time", pa.types.is_time),
    ("duration", pa.types.is_duration),
)
