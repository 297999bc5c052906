"""Frozen dataclasses to JSON and back, driven by their annotations. Reading reports *all* problems, each with
its place.

Knows what the records of a checkpoint are made of: int, str, bool, `Hash`, StrEnum, `tuple[X, ...]`,
`tuple[X, Y]` and other records. A field with a default may be absent, so that a later version can add one; an
unknown field is a problem, because writing the record again would lose it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from enum import StrEnum
from functools import cache, partial
from typing import Any, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

import orjson

from microstream.checkpoint.manifest import HASH_SPACE, Hash

__all__ = ["dump", "parse", "read"]

R = TypeVar("R")

Place: TypeAlias = "tuple[Place, str | int] | None"
"""Where a value stands, innermost last; turned into text only for a problem."""

Reader: TypeAlias = Callable[[Any, Place, list[str]], Any]
Writer: TypeAlias = Callable[[Any], Any]

LEAST, MOST = -(2**63), 2**63 - 1
OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS


def dump(record: Any) -> bytes:
    """`record` as JSON with sorted keys: equal records give equal bytes."""
    return orjson.dumps(record, default=_plain, option=OPTIONS)


def parse(data: bytes) -> tuple[dict[str, Any] | None, str]:
    """The JSON object in `data`, or None and why there is none."""
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError as problem:
        return None, f"it is not JSON ({problem})"
    if not isinstance(found, dict):
        return None, f"it holds {_shown(found)}, not an object"
    return found, ""


def read(kind: type[R], value: Any) -> tuple[R | None, tuple[str, ...]]:
    """A `kind` from parsed JSON, or None and all that is wrong with it."""
    problems: list[str] = []
    record_kind: Any = kind
    record = _record_reader(record_kind)(value, None, problems)
    return (None, tuple(problems)) if problems else (record, ())


def _plain(record: Any) -> dict[str, Any]:
    kind: Any = type(record)
    if not hasattr(kind, "__dataclass_fields__"):
        raise TypeError(f"{kind.__name__} has no place in a checkpoint")
    names, writers = _written(kind)
    found = {name: getattr(record, name) for name in names}
    for name, write in writers:
        found[name] = write(found[name])
    return found


@cache
def _written(kind: type[Any]) -> tuple[tuple[str, ...], tuple[tuple[str, Writer], ...]]:
    """All fields, and those that need care: orjson writes all but hashes by itself, and calls back for records."""
    hints = get_type_hints(kind, include_extras=True)
    names = tuple(field.name for field in fields(kind))
    return names, tuple((name, HASHES[hints[name]]) for name in names if hints[name] in HASHES)


def _write_hash(value: int) -> str:
    return f"{value:016x}"


def _write_hashes(values: tuple[int, ...]) -> list[str]:
    return [f"{value:016x}" for value in values]


HASHES: dict[Any, Writer] = {Hash: _write_hash, tuple[Hash, ...]: _write_hashes}


@cache
def _record_reader(kind: type[Any]) -> Reader:
    hints = get_type_hints(kind, include_extras=True)
    readers = {field.name: _reader(hints[field.name]) for field in fields(kind)}
    required = frozenset(field.name for field in fields(kind) if field.default is MISSING)
    leaves = {name: hint for name, hint in hints.items() if hint in (int, str, bool)}

    def reader(value: Any, at: Place, problems: list[str]) -> Any:
        if type(value) is not dict:
            return _refuse(value, "an object", at, problems)
        if not required <= value.keys() <= readers.keys():
            problems += (f"{_path((at, name))} is missing" for name in sorted(required - value.keys()))
            problems += (f"{_path((at, name))} is unknown" for name in sorted(value.keys() - readers.keys()))
        before = len(problems)
        found = {}
        for name, item in value.items():
            # Most values are of these types: to call a reader for each would take half of the time.
            if type(item) is leaves.get(name) and (type(item) is not int or LEAST <= item <= MOST):
                found[name] = item
            elif name in readers:
                found[name] = readers[name](item, (at, name), problems)
        return kind(**found) if len(problems) == before and required <= found.keys() else None

    return reader


def _reader(hint: Any) -> Reader:
    if hint == Hash:
        return _read_hash
    if hint is int:
        return _read_int
    if hint is str:
        return partial(_read_plain, str, "text")
    if hint is bool:
        return partial(_read_plain, bool, "true or false")
    if get_origin(hint) is tuple:
        items = get_args(hint)
        if items[-1] is Ellipsis:
            return partial(_read_list, _reader(items[0]))
        return partial(_read_row, tuple(_reader(item) for item in items))
    if issubclass(hint, StrEnum):
        return partial(_read_choice, hint)
    return _record_reader(hint)


def _read_plain(kind: type[Any], name: str, value: Any, at: Place, problems: list[str]) -> Any:
    return value if type(value) is kind else _refuse(value, name, at, problems)


def _read_int(value: Any, at: Place, problems: list[str]) -> Any:
    if type(value) is int and LEAST <= value <= MOST:
        return value
    return _refuse(value, "a whole number of 64 bits", at, problems)


def _read_hash(value: Any, at: Place, problems: list[str]) -> Any:
    if type(value) is str:
        try:
            number = int(value, 16)
        except ValueError:
            number = -1
        if 0 <= number <= HASH_SPACE and value == _write_hash(number):
            return number
    return _refuse(value, "a hash of 16 hexadecimal digits", at, problems)


def _read_choice(kind: type[StrEnum], value: Any, at: Place, problems: list[str]) -> Any:
    try:
        return kind(value)
    except ValueError:
        return _refuse(value, f"one of {', '.join(kind)}", at, problems)


def _read_list(item: Reader, value: Any, at: Place, problems: list[str]) -> Any:
    if type(value) is not list:
        return _refuse(value, "a list", at, problems)
    return tuple([item(one, (at, n), problems) for n, one in enumerate(value)])


def _read_row(items: tuple[Reader, ...], value: Any, at: Place, problems: list[str]) -> Any:
    if type(value) is not list or len(value) != len(items):
        return _refuse(value, f"a list of {len(items)}", at, problems)
    return tuple([items[n](one, (at, n), problems) for n, one in enumerate(value)])


def _refuse(value: Any, wanted: str, at: Place, problems: list[str]) -> None:
    problems.append(f"{_path(at) or 'it'} is {_shown(value)}, not {wanted}")


def _path(at: Place) -> str:
    """`operators[0].runs[3].lo`.

    >>> _path(((((None, "operators"), 0), "runs"), 3))
    'operators[0].runs[3]'
    """
    if at is None:
        return ""
    outer, step = at
    before = _path(outer)
    if isinstance(step, int):
        return f"{before}[{step}]"
    return f"{before}.{step}" if before else step


def _shown(value: Any) -> str:
    match value:
        case dict():
            return "an object"
        case list():
            return f"a list of {len(value)}"
        case None:
            return "null"
        case _:
            text = repr(value)
            return text if len(text) <= 60 else f"{text[:59]}…"
