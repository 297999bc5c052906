"""`module:function` on the command line: the part of a program that makes sinks, or starts a query."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microstream.errors import PlanError

if TYPE_CHECKING:
    import microstream as ms

__all__ = ["Made", "made_by"]


@dataclass(frozen=True, slots=True)
class Made:
    """What a target gave: sinks that nobody started, or queries that it started itself."""

    sinks: tuple[ms.StreamSink, ...] = ()
    queries: tuple[ms.StreamingQuery, ...] = ()


def made_by(target: str) -> Made:
    """Import the module of `target` ("app:main") from the current folder or the path, and call the function.

    Raises
    ------
    PlanError
        There is no such module or function, or it gives neither sinks nor queries.
    """
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise PlanError(f"{target!r}: write module:function, as in app:main for def main() in app.py.")
    found = getattr(_module(module_name, target), name, None)
    if found is None:
        raise PlanError(f"{target!r}: module {module_name} has no {name!r}.")
    return _sorted(target, found() if callable(found) else found)


def _module(name: str, target: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        if problem.name is None or not name.startswith(problem.name):
            raise  # the module is there, and lacks something itself
        raise PlanError(f"{target!r}: there is no module {name!r} in {here} or on the Python path.") from problem


def _sorted(target: str, given: Any) -> Made:
    import microstream as ms

    parts = tuple(given) if isinstance(given, Iterable) and not isinstance(given, ms.StreamFrame) else (given,)
    if given is None:
        running = ms.queries()
        if running:
            return Made(queries=running)
        raise PlanError(
            f"{target!r} returned nothing and started no query. Return sinks, as in: return out.to_kafka(...)"
        )
    if parts and all(isinstance(part, ms.StreamSink) for part in parts):
        return Made(sinks=parts)
    if parts and all(isinstance(part, ms.StreamingQuery) for part in parts):
        return Made(queries=parts)
    raise PlanError(f"{target!r} gave {given!r:.100}. Let it return sinks (or start the query itself).")
