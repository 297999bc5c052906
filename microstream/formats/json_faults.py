"""Why a JSON document does not fit a schema, in words; the rules are those of pyarrow.json, which decides."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

__all__ = ["clipped", "fault_of_kind"]

SHOWN_CHARS = 60


def fault_of_kind(value: Any, kind: pa.DataType, where: str) -> str | None:
    """The first place below `where` whose JSON kind is not that of `kind` (a wire type); null fits everything.

    >>> fault_of_kind({"price": "7"}, pa.struct([("price", pa.int64())]), "")
    "price is '7', not int64"
    """
    match value:
        case None:
            return None
        case dict() if pa.types.is_struct(kind):
            return _fault_inside(value, kind, where)
        case list() if pa.types.is_list(kind):
            items = (fault_of_kind(item, kind.value_type, f"{where}[{at}]") for at, item in enumerate(value))
            return next((fault for fault in items if fault is not None), None)
        case _:
            return None if _fits(value, kind) else f"{where or 'the record'} is {clipped(value)}, not {_named(kind)}"


def clipped(value: Any) -> str:
    """`repr(value)`, at most 60 characters of it."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "…"


def _fault_inside(document: dict[str, Any], kind: Any, where: str) -> str | None:
    for child in kind:
        place = f"{where}.{child.name}" if where else child.name
        fault = fault_of_kind(document.get(child.name), child.type, place)
        if fault is not None:
            return fault
    return None


def _fits(value: Any, kind: pa.DataType) -> bool:
    match value:
        case bool():
            return pa.types.is_boolean(kind)
        case int() | float() | str() if pa.types.is_decimal(kind):
            return True  # only the parser sees all its digits
        case int():
            return pa.types.is_floating(kind) or (pa.types.is_integer(kind) and _in_range(value, kind))
        case float():
            return pa.types.is_floating(kind)
        case str():
            return pa.types.is_string(kind) or pa.types.is_large_string(kind)
        case _:
            return False


def _in_range(value: int, kind: Any) -> bool:
    bits: int = kind.bit_width
    low, high = (0, 2**bits) if pa.types.is_unsigned_integer(kind) else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    return bool(low <= value < high)


def _named(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return "an object"
    if pa.types.is_list(kind):
        return "a list"
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else str(kind)
