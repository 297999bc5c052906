"""Event time that the plan sets itself (`with_watermark`): which sources it times, and that there is one for each.

A source has one ledger, so there is one event time for all that is made of it. Whoever needs two reads it twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from microstream.errors import PlanError
from microstream.plan.nodes import (
    Concat,
    Late,
    MapBatches,
    Node,
    RunningAggregate,
    Sink,
    Source,
    Watermark,
    WindowAggregate,
)
from microstream.plan.rules import children, in_order, rewrite

__all__ = ["check_one_time", "require_traceable", "timed_sources", "with_delays"]


def require_traceable(node: Node) -> None:
    """Raise PlanError where no event time can be set on rows of `node`.

    It can where each row is known to come from one partition of a source, and no stateful operator came before.
    """
    match node:
        case Source(takes_batch_time=True, name=name, event_time=column):
            raise PlanError(
                f"with_watermark: source {name!r} has event_time={column!r}, so its watermark is the time of a batch. "
                "Leave event_time= out there to set another here."
            )
        case Source():
            return
        case WindowAggregate() | RunningAggregate() | Late():
            raise PlanError(
                "with_watermark: only before the first aggregate. The result of one over windows has window_end as "
                "event time, that of a running one has none, and .late rows are late by the watermark that there is."
            )
        case Watermark(column=column):
            raise PlanError(f"with_watermark: {column!r} is event time by another with_watermark before. Use one.")
        case MapBatches(name=name):
            raise PlanError(
                f"with_watermark: behind {name} it is not known which partition a row came from, and each partition "
                "has its own event time. Call it before, or use assign() or map_rows(), which keep rows apart."
            )
        case _:
            for child in children(node):
                require_traceable(child)


def timed_sources(nodes: Iterable[Node]) -> Mapping[str, Watermark]:
    """Source name -> the node that sets its event time; sources that have their own are left out.

    Raises
    ------
    PlanError
        Two nodes set the event time of one source.
    """
    timed: dict[str, Watermark] = {}
    for node in nodes:
        if not isinstance(node, Watermark):
            continue
        for source in in_order((node,)):
            if isinstance(source, Source) and timed.setdefault(source.name, node) is not node:
                raise PlanError(
                    f"with_watermark: source {source.name!r} gets event time {timed[source.name].column!r} in one "
                    f"place and {node.column!r} in another. Call it once and use that frame twice, or read the source "
                    "twice under another name=."
                )
    return timed


def with_delays(sinks: tuple[Sink, ...], timed: Mapping[str, Watermark]) -> tuple[Sink, ...]:
    """The plan, in which a source is out of order by as much as the node says that sets its event time."""

    def rule(node: Node) -> Node:
        if isinstance(node, Source) and node.name in timed:
            return replace(node, delay_us=timed[node.name].delay_us)
        return node

    return rewrite(sinks, rule) if timed else sinks


def check_one_time(operators: Iterable[Node], timed: Mapping[str, Watermark]) -> None:
    """Raise PlanError where an operator takes the source's own event time, while the plan sets another for it."""
    for operator in operators:
        for child in children(operator):
            both = _untimed(child) & timed.keys() if child.event_time is not None else set()
            for name in sorted(both):
                raise PlanError(
                    f"source {name!r} has event time {child.event_time!r} in one place and, by with_watermark, "
                    f"{timed[name].column!r} in another. Use one of them for all, or read the source twice under "
                    "another name=."
                )


def _untimed(node: Node) -> set[str]:
    """Sources whose rows reach `node` with their own event time."""
    match node:
        case Source(name=name):
            return {name}
        case Watermark() | WindowAggregate() | RunningAggregate():
            return set()
        case Concat(children=several):
            return set().union(*map(_untimed, several))
        case _:
            return set().union(*map(_untimed, children(node)))
