"""From what pyarrow.json can read to the columns a schema asks for: times, dates, bytes, null rules, nested or not.

A mask (`microstream.formats.masks`) is true where a value breaks the field.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microstream.errors import PlanError
from microstream.formats.masks import Mask, as_mask, either

__all__ = ["settle", "wire_type"]

TIME = pa.timestamp("us")
DAYTIME = pa.time64("us")
ZONED_TIME = pa.timestamp("us", "UTC")
EPOCH = re.compile(r"epoch\[(s|ms|us|ns)\]")
FACTORS = {"s": 1_000_000, "ms": 1_000, "us": 1}
"""Microseconds per unit."""

ZONED = r"[ T]\d\d.*(Z|[+-]\d\d(:?\d\d)?)$"
FINER_THAN_US = r"(\.\d{6})\d+"


def wire_type(field: pa.Field[Any]) -> pa.DataType:
    """The Arrow type to ask pyarrow.json for; times are integers (epoch) or text there.

    Raises
    ------
    PlanError
        JSON cannot hold the type of `field`.

    >>> wire_type(pa.field("t", pa.timestamp("us"), metadata={"microstream": "epoch[ms]"}))
    DataType(int64)
    """
    kind: Any = field.type
    if kind == TIME:
        return pa.string() if _epoch_unit(field) is None else pa.int64()
    if pa.types.is_date32(kind) or kind == DAYTIME or _is_binary(kind):
        return pa.string()
    if pa.types.is_decimal128(kind):
        return kind
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(child.name, wire_type(child)) for child in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(wire_type(kind.value_field))
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return kind
    if pa.types.is_float32(kind) or pa.types.is_float64(kind):
        return kind
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return kind
    raise PlanError(
        f"schema: column {field.name!r} has type {kind}, which cannot be read from JSON. There are: integers, float32, "
        "float64, bool, string, binary (base64), decimal128, date32, time64[us], timestamp[us] (ISO text, or numbers "
        "with the metadata {'microstream': 'epoch[ms]'}), and lists and structs of these."
    )


def settle(values: pa.Array[Any], field: pa.Field[Any]) -> tuple[pa.Array[Any], Mask]:
    """`values` as read (type `wire_type(field)`) in the type of `field`, and which of them break its rules.

    A value that is no time becomes null and is masked; so is a null where `field` forbids it, at any depth.
    """
    kind: Any = field.type
    settled, mask = _convert(values, field)
    if not field.nullable and settled.null_count:
        mask = either(mask, as_mask(pc.is_null(settled)))
    return (settled if settled.type == kind else settled.cast(kind)), mask


def _convert(values: Any, field: pa.Field[Any]) -> tuple[pa.Array[Any], Mask]:
    kind: Any = field.type
    if kind == TIME:
        unit = _epoch_unit(field)
        return _times_of_text(values) if unit is None else _times_of_numbers(values, unit)
    if pa.types.is_date32(kind):
        return _parsed(values, kind)
    if kind == DAYTIME:
        return _times_of_day(values)
    if _is_binary(kind):
        return _bytes_of_base64(values)
    if pa.types.is_floating(kind):
        # To add 0.0 makes one zero of two: of -0, an integer, parsers make either.
        nan, values = pc.is_nan(values), pc.add(values, pa.scalar(0.0, kind))
        return (pc.if_else(nan, pa.scalar(None, kind), values) if pc.any(nan).as_py() else values), None
    if pa.types.is_struct(kind):
        return _settle_struct(values, kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _settle_list(values, kind)
    return values, None


def _settle_struct(values: Any, kind: Any) -> tuple[pa.Array[Any], Mask]:
    null = pc.is_null(values)
    present = ~as_mask(null)
    mask: Mask = None
    children = []
    for child, child_values in zip(kind, values.flatten(), strict=True):
        settled, child_mask = settle(child_values, child)
        children.append(settled)
        if child_mask is not None:
            mask = either(mask, child_mask & present)
    return pa.StructArray.from_arrays(children, fields=list(kind), mask=null), mask


def _settle_list(values: Any, kind: Any) -> tuple[pa.Array[Any], Mask]:
    items, item_mask = settle(values.flatten(), kind.value_field)
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    from_arrays: Any = pa.ListArray.from_arrays
    settled = from_arrays(offsets, items, pa.list_(kind.value_field), mask=pc.is_null(values))
    if item_mask is None:
        return settled, None
    mask = np.zeros(len(values), bool)
    mask[np.repeat(np.arange(len(values)), lengths)[item_mask]] = True
    return settled, mask


def _times_of_numbers(values: Any, unit: str) -> tuple[pa.Array[Any], Mask]:
    if unit == "ns":
        numbers = pc.fill_null(values, 0).to_numpy(zero_copy_only=False)
        floored = pa.array(numbers // 1000, mask=as_mask(pc.is_null(values)))
        return floored.view(TIME), None
    factor = FACTORS[unit]
    try:
        return pc.multiply_checked(values, factor).view(TIME), None
    except pa.ArrowInvalid:
        most = (2**63 - 1) // factor
        beyond = pc.or_(pc.greater(values, pa.scalar(most)), pc.less(values, pa.scalar(-most)))
        kept: Any = pc.if_else(beyond, pa.scalar(None, pa.int64()), values)
        return pc.multiply(kept, factor).view(TIME), as_mask(beyond)


def _times_of_text(texts: Any) -> tuple[pa.Array[Any], Mask]:
    """ISO 8601 to UTC; without a zone the text is UTC already; digits beyond microseconds are cut off."""
    for kind in (ZONED_TIME, TIME):
        try:
            return texts.cast(kind).cast(TIME), None
        except pa.ArrowInvalid:
            continue
    cut = pc.replace_substring_regex(texts, FINER_THAN_US, r"\1")
    zoned = pc.match_substring_regex(cut, ZONED)
    nothing = pa.scalar(None, cut.type)
    with_zone, mask = _parsed(pc.if_else(zoned, cut, nothing), ZONED_TIME)
    without, other_mask = _parsed(pc.if_else(zoned, nothing, cut), TIME)
    return pc.coalesce(with_zone.cast(TIME), without), either(mask, other_mask)


def _times_of_day(texts: Any) -> tuple[pa.Array[Any], Mask]:
    """ "23:59", "23:59:59" and "23:59:59.999999"; digits beyond microseconds are cut off."""
    cut = pc.replace_substring_regex(texts, FINER_THAN_US, r"\1")
    times, mask = _parsed(pc.binary_join_element_wise("1970-01-01T", cut, ""), TIME)
    return times.cast(pa.int64()).view(DAYTIME), mask


def _bytes_of_base64(texts: Any) -> tuple[pa.Array[Any], Mask]:
    """Standard base64 with padding (RFC 4648, 4), without line ends."""
    import polars as pl  # 0.15 s, for few who read bytes

    series = pl.from_arrow(pa.table({"text": texts})["text"])
    assert isinstance(series, pl.Series)
    read: Any = series.to_frame("text").select(pl.col("text").str.decode("base64", strict=False)).to_series().to_arrow()
    values = read.cast(pa.large_binary())
    broken = as_mask(pc.and_not(pc.is_null(values), pc.is_null(texts)))
    return values, broken if broken.any() else None


def _parsed(texts: Any, kind: pa.DataType) -> tuple[pa.Array[Any], Mask]:
    try:
        return texts.cast(kind), None
    except pa.ArrowInvalid:
        parsed = pa.array([_one(text, kind) for text in texts.to_pylist()], kind)
        return parsed, as_mask(pc.and_not(pc.is_null(parsed), pc.is_null(texts)))


def _one(text: str | None, kind: pa.DataType) -> Any:
    try:
        return pa.scalar(text, pa.string()).cast(kind).as_py()
    except pa.ArrowInvalid:
        return None


def _epoch_unit(field: pa.Field[Any]) -> str | None:
    said = (field.metadata or {}).get(b"microstream")
    if said is None:
        return None
    match = EPOCH.fullmatch(said.decode())
    if match is None:
        raise PlanError(
            f"schema: column {field.name!r} says microstream={said.decode()!r}; there are 'epoch[s]', 'epoch[ms]', "
            "'epoch[us]' and 'epoch[ns]'."
        )
    return match.group(1)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
