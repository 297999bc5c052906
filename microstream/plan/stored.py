"""Stateful nodes as text in a checkpoint, so that their state can be read without the program that wrote it.

The text holds a node's own fields and, of its input, the types of the columns that they name. It works for every
dataclass of `MODULES` whose fields are plain values, Arrow types or other such dataclasses: a new kind of window or a
new parameter of an aggregate needs nothing here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import pyarrow as pa

from microstream.errors import CheckpointError
from microstream.plan import aggregates, expr, nodes, windows

__all__ = ["node_of", "node_text"]

KIND = "kind"
COLUMNS = "columns"
INPUTS = ("child", "left", "right")
MODULES = {"nodes": nodes, "aggregates": aggregates, "expr": expr, "windows": windows}


def node_text(node: Any) -> str:
    """`node` as JSON; empty if it holds functions or other things of the program, which no other can know."""
    try:
        described = _plain(node)
    except TypeError:
        return ""
    sides = [side for side in INPUTS if side in described]
    inputs = {side: {COLUMNS: _schema_text(_named(described, getattr(node, side).schema))} for side in sides}
    return json.dumps({**described, **inputs}, sort_keys=True)


def node_of(text: str) -> Any:
    """The node that `node_text` described, over a source that has its input's columns.

    Raises
    ------
    CheckpointError
        The text is of another version, or empty.
    """
    try:
        return _built(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        reason = f"{type(problem).__name__}: {problem}" if text else "it holds functions of its program"
        raise CheckpointError.of(
            "operator",
            [f"its plan is not in the checkpoint ({reason})"],
            "Ask the running query instead: query.state(...).",
        ) from problem


def _plain(value: Any) -> Any:
    """`value` for JSON. Raises TypeError for what only its program knows."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case tuple() | list():
            return [_plain(part) for part in value]
        case Mapping():
            return {"map": [[_plain(k), _plain(v)] for k, v in value.items()]}
        case pa.DataType():
            return {"type": _schema_text(pa.schema([("type", value)]))}
    home = type(value).__module__.rpartition(".")[2]
    if not is_dataclass(value) or getattr(MODULES.get(home), type(value).__name__, None) is not type(value):
        raise TypeError(f"{type(value).__name__} is of the program")
    inputs: dict[str, Any] = {name: {} for name in INPUTS if hasattr(value, name)}
    own = {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.init and f.name not in INPUTS}
    return {KIND: f"{home}.{type(value).__name__}", **own, **inputs}


def _named(described: Any, schema: pa.Schema) -> pa.Schema:
    """The columns of `schema` that any text of `described` names."""
    names = set(_texts(described))
    return pa.schema([column.remove_metadata() for column in schema if column.name in names])


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for part in value:
                yield from _texts(part)
        case dict():
            for part in value.values():
                yield from _texts(part)


def _built(value: Any) -> Any:
    match value:
        case list():
            return tuple(_built(part) for part in value)
        case {"type": str(text)}:
            return _schema_of(text).field("type").type
        case {"map": list(pairs)}:
            return {_built(k): _built(v) for k, v in pairs}
        case {"columns": str(text), **rest} if not rest:
            return _input(_schema_of(text))
        case {"kind": str(kind), **rest}:
            made = {str(name): _built(part) for name, part in rest.items()}
            on = made.get("on")
            if isinstance(on, str) and isinstance(made.get("child"), nodes.Source):
                made["child"] = _input(made["child"].schema, on)
            home, _, name = kind.partition(".")
            return getattr(MODULES[home], name)(**made)
    return value


def _input(schema: pa.Schema, event_time: str | None = None) -> nodes.Source:
    return nodes.Source(name="input", spec=_NOWHERE, schema=schema, event_time=event_time)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nowhere:
    """The spec of a source that is never opened."""

    kind: str = "checkpoint"
    target: str = ""
    finite: bool = True


_NOWHERE = _Nowhere()


def _schema_text(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def _schema_of(text: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
