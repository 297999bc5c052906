"""What each operator emits in a batch: the output mode of its sinks (semantics 19)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, get_args

from microstream.errors import PlanError, did_you_mean
from microstream.plan.expr import Expr, columns_of
from microstream.plan.nodes import (
    REVISION,
    Assign,
    BadRecords,
    Concat,
    Filter,
    Late,
    Node,
    Project,
    RunningAggregate,
    Sink,
    Source,
    Stateful,
    WindowAggregate,
    last_operators,
)
from microstream.plan.origin import origin_of
from microstream.plan.rules import children, in_order, with_children
from microstream.plan.specs import Keyed, OutputMode

__all__ = ["MODES", "default_mode", "with_modes"]

MODES: Final[tuple[str, ...]] = get_args(OutputMode)


def default_mode(node: Node) -> OutputMode:
    """Rows that are final, where `node` has such; else those that changed."""
    running = any(isinstance(operator, RunningAggregate) for operator in last_operators(node))
    return "update" if running else "append"


def with_modes(sinks: tuple[Sink, ...]) -> tuple[Sink, ...]:
    """The plan of `sinks` where each sink has its mode, and the operators before it emit by it.

    An operator that feeds another works in append; all sinks of one operator have one mode.

    Raises
    ------
    PlanError
        There is no such form: of an operator, of the sink, or of both what two sinks want.
    """
    chosen = tuple(replace(sink, mode=_mode(sink)) for sink in sinks)
    wanted: dict[int, _Wanted] = {}
    for node in in_order(tuple(sink.child for sink in sinks)):
        if isinstance(node, WindowAggregate | RunningAggregate):
            for operator in last_operators(node.child):
                wanted[id(operator)] = _Wanted("append", f"{_name(node)}, which takes final rows only")
    for sink in chosen:
        for operator in last_operators(sink.child):
            here = _Wanted(sink.mode or "append", f"sink {sink.name!r}")
            other = wanted.setdefault(id(operator), here)
            if other.mode != here.mode:
                raise PlanError(
                    f"{_name(operator)} would emit in mode {here.mode!r} for {here.by}, and in mode {other.mode!r} for "
                    f"{other.by}. Give all its sinks one output_mode=, or aggregate twice."
                )
    return _rewritten(chosen, {at: mode.mode for at, mode in wanted.items()})


@dataclass(frozen=True, slots=True)
class _Wanted:
    mode: OutputMode
    by: str


def _mode(sink: Sink) -> OutputMode:
    """The mode of `sink`, which its operators and its connector have."""
    operators = last_operators(sink.child)
    mode = sink.mode or default_mode(sink.child)
    if mode not in MODES:
        raise PlanError(
            f"sink {sink.name!r}: output_mode={mode!r} must be one of 'append', 'update', 'complete'."
            f"{did_you_mean(str(mode), MODES)}"
        )
    if mode == "append" and any(isinstance(operator, RunningAggregate) for operator in operators):
        raise PlanError(
            f"sink {sink.name!r}: output_mode='append' is for rows that are final, but an aggregate without a window "
            "never ends. Give it one, as in .groupby(keys).window(ms.tumbling('1min')), or use output_mode='update'."
        )
    if mode == "complete" and not _is_result(sink.child):
        raise PlanError(
            f"sink {sink.name!r}: output_mode='complete' is the whole result of an aggregate in every batch, and "
            + (
                "some of these rows come from none, so that those of earlier batches would be gone. Give them a sink "
                "of their own, or use output_mode='update'."
                if operators
                else "there is none here: without one a query keeps no rows. Use output_mode='append'."
            )
        )
    sink.spec.check_mode(mode)
    if mode == "update" and isinstance(sink.spec, Keyed):
        for operator in operators:
            _check_key(sink, sink.spec.key_columns, operator)
    return mode


def _is_result(node: Node) -> bool:
    """Whether all rows of `node` are results of aggregates, which can be given again."""
    match node:
        case WindowAggregate() | RunningAggregate():
            return True
        case Source() | BadRecords() | Late():
            return False
        case Concat(children=several):
            return all(map(_is_result, several))
        case _:
            return _is_result(node.child)


def _check_key(sink: Sink, key: tuple[str, ...], operator: Stateful) -> None:
    """Raise PlanError where two rows of `operator` have one `key`, so that one would replace the other.

    What a computed column tells apart is not known: it is taken. Rows of several windows may share a key, for who wants
    the newest window only.
    """
    origins = {origin_of(column, sink.child, operator) for column in key}
    missing = [name for name in operator.keys if name not in origins]
    if not missing or None in origins:
        return
    raise PlanError(
        f"sink {sink.name!r}: in output mode 'update' a record replaces the one before it of the same key, but "
        f"key={_written(key)} does not tell rows of {_name(operator)} apart: {', '.join(map(repr, missing))} "
        f"is missing. Write key={_written(_identity(operator))}, or what these columns are called here."
    )


def _identity(operator: Stateful) -> tuple[str, ...]:
    return (*operator.keys, "window_end") if isinstance(operator, WindowAggregate) else operator.keys


def _written(columns: tuple[str, ...]) -> str:
    return repr(columns[0]) if len(columns) == 1 else repr(list(columns))


def _rewritten(sinks: tuple[Sink, ...], modes: Mapping[int, OutputMode]) -> tuple[Sink, ...]:
    done: dict[int, Node] = {}
    for node in in_order(tuple(sink.child for sink in sinks)):
        new = with_children(node, tuple(done[id(child)] for child in children(node)))
        _check_numbers(new)
        mode = modes.get(id(node))
        if isinstance(new, WindowAggregate | RunningAggregate) and mode is not None and new.mode != mode:
            new = replace(new, mode=mode)
        done[id(node)] = new
    return tuple(replace(sink, child=done[id(sink.child)]) for sink in sinks)


def _check_numbers(node: Node) -> None:
    """Raise PlanError where `node` reads `_revision` of windows that do not number what they give."""
    match node:
        case Filter(predicate=expr) | Assign(expr=expr):
            exprs: tuple[Expr, ...] = (expr,)
        case Project(exprs=several):
            exprs = several
        case _:
            return
    if REVISION not in node.child.schema.names and any(REVISION in (columns_of(expr) or ()) for expr in exprs):
        raise PlanError(
            f"{type(node).__name__.lower()}: column {REVISION!r} numbers windows that come again in output mode "
            "'append'. In 'update' and 'complete' the newest row of a window counts and has no number: leave the "
            "column out."
        )


def _name(operator: Stateful) -> str:
    by = f" by {', '.join(operator.keys)}" if operator.keys else ""
    return f"aggregate {operator.id!r}" if operator.id else f"the aggregate{by}"
