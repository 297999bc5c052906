"""The types of JSON documents, learnt from examples. What they disagree about is an error that shows both.

| values | type |
|---|---|
| true, false | `boolean` |
| whole numbers | `Int64`; `epoch[...]` if they are the event time |
| numbers, some with a point | `float64` |
| text, all of it ISO 8601 with date and time | `timestamp[us]` |
| other text | `str` |
| lists, objects | lists and structs of these |

Everything may be null: that a field was there in all examples does not say that it always will be. A field that is
always null, or always an empty list or object, is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Any, TypeAlias

import orjson
import pyarrow as pa

from microstream.errors import PlanError
from microstream.formats.json_faults import clipped

__all__ = ["Example", "infer_fields"]

MOST_CONFLICTS = 3
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d([.,]\d+)?)?\s?(Z|[+-]\d\d(:?\d\d)?)?")
EPOCHS = ((10**11, "s"), (10**14, "ms"), (10**17, "us"))
"""Numbers below the bound are in the unit: so they mean times from 1973 to 5138."""


@dataclass(frozen=True, slots=True)
class Example:
    """A document, and where it is: "bids-0 offset 7", "in/a.json line 3"."""

    where: str
    record: bytes


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a field is, and the first value that says so."""

    kind: str
    where: str
    value: Any
    fields: tuple[tuple[str, _Kind], ...] = ()
    """Of an object; or the items of a list, under "item"."""


_Kind: TypeAlias = "_Seen | None"
"""None: nothing but null so far."""


class _ConflictError(Exception):
    """Two examples of one field disagree."""


def infer_fields(examples: Sequence[Example], *, event_time: str | None, of: str) -> pa.Schema:
    """The schema of `examples`; `of` names them in errors.

    Raises
    ------
    PlanError
        There are no examples, one is no JSON object, or two disagree.

    >>> records = [Example("a", b'{"id": 1, "at": "2026-01-01T00:00:00Z"}'), Example("b", b'{"id": 2.5, "x": null}')]
    >>> infer_fields(records, event_time="at", of="these")
    id: double
    at: timestamp[us]
    """
    seen: dict[str, _Kind] = {}
    conflicts: dict[str, str] = {}
    for example in examples:
        for name, value in _document(example, of).items():
            try:
                seen[name] = _unified(seen.get(name), _seen(value, example.where), name)
            except _ConflictError as conflict:
                conflicts.setdefault(name, str(conflict))
    if conflicts:
        shown = "; ".join(list(conflicts.values())[:MOST_CONFLICTS])
        raise PlanError(
            f"the schema of {of} cannot be inferred: {shown}. Give schema=, and on_bad_record='drop' if one kind of "
            "these is to be left out.",
            conflicts=tuple(conflicts),
        )
    fields = [pa.field(name, kind) for name, found in seen.items() if (kind := _type(found)) is not None]
    if not fields:
        raise PlanError(f"the schema of {of} cannot be inferred: there are no records with values. Give schema=.")
    return pa.schema([_timed(field, examples) if field.name == event_time else field for field in fields])


def _document(example: Example, of: str) -> Mapping[str, Any]:
    try:
        document = orjson.loads(example.record)
    except orjson.JSONDecodeError as problem:
        document = problem
    if not isinstance(document, dict):
        raise PlanError(
            f"the schema of {of} cannot be inferred: {example.where} is {clipped(example.record)}, not a JSON object. "
            "Give schema=."
        )
    return document


def _seen(value: Any, where: str) -> _Kind:
    match value:
        case None:
            return None
        case bool():
            return _Seen("bool", where, value)
        case int():
            return _Seen("int" if -(2**63) <= value < 2**63 else "float", where, value)
        case float():
            return _Seen("float", where, value)
        case str():
            return _Seen("time" if TIME.fullmatch(value) else "text", where, value)
        case list():
            items: _Kind = None
            for item in value:
                items = _unified(items, _seen(item, where), "a list")
            return _Seen("list", where, value, (("item", items),))
        case _:
            return _Seen("object", where, value, tuple((key, _seen(each, where)) for key, each in value.items()))


def _unified(first: _Kind, second: _Kind, name: str) -> _Kind:
    """What both say of field `name`."""
    if first is None or second is None:
        return first or second
    if {first.kind, second.kind} == {"int", "float"}:
        return first if first.kind == "float" else second
    if {first.kind, second.kind} == {"time", "text"}:
        return first if first.kind == "text" else second
    if first.kind != second.kind:
        raise _ConflictError(
            f"{name} is {clipped(first.value)} in {first.where}, but {clipped(second.value)} in {second.where}"
        )
    if first.kind not in ("list", "object"):
        return first
    fields = dict(first.fields)
    for key, kind in second.fields:
        place = name if first.kind == "list" else f"{name}.{key}"
        fields[key] = _unified(fields.get(key), kind, place)
    return _Seen(first.kind, first.where, first.value, tuple(fields.items()))


def _type(seen: _Kind) -> pa.DataType | None:
    """The Arrow type; None where nothing is known of it."""
    if seen is None:
        return None
    match seen.kind:
        case "bool":
            return pa.bool_()
        case "int":
            return pa.int64()
        case "float":
            return pa.float64()
        case "time":
            return pa.timestamp("us")
        case "text":
            return pa.large_string()
        case "list":
            item = _type(seen.fields[0][1])
            return None if item is None else pa.list_(item)
        case _:
            known = [pa.field(key, kind) for key, field in seen.fields if (kind := _type(field)) is not None]
            return pa.struct(known) if known else None


def _timed(field: pa.Field[Any], examples: Sequence[Example]) -> pa.Field[Any]:
    """An event time that is a number counts from 1970; its size says in which unit."""
    if not pa.types.is_int64(field.type):
        return field
    numbers = [orjson.loads(each.record).get(field.name) for each in examples]
    middle = median_low([abs(number) for number in numbers if number is not None])
    unit = next((unit for bound, unit in EPOCHS if middle < bound), "ns")
    return pa.field(field.name, pa.timestamp("us"), metadata={"microstream": f"epoch[{unit}]"})
