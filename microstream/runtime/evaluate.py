"""One stage on one lane: from the rows that enter to the rows that leave. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from microstream.errors import InternalError
from microstream.operators.aggregate import partial, partial_schema
from microstream.operators.order import NOWHERE, Places
from microstream.operators.rows import Rows
from microstream.operators.stateless import Instances, apply
from microstream.operators.window import split_late
from microstream.plan.nodes import BadRecords, Late, RunningAggregate, Source, Watermark, WindowAggregate
from microstream.plan.stages import Operator, Stage
from microstream.state.lanes import split

__all__ = ["Leaving", "evaluate"]


@dataclass(slots=True, kw_only=True)
class Leaving:
    """What a stage hands on: partials per operator and target lane, rows per sink, late rows counted per operator.

    `timed` are rows that got their event time in this stage, each with the name of its column.
    """

    exchange: dict[str, Sequence[pa.Table]] = field(default_factory=dict)
    sinks: list[tuple[str, Rows]] = field(default_factory=list)
    late_rows: dict[str, int] = field(default_factory=dict)
    timed: list[tuple[Rows, str]] = field(default_factory=list)


def evaluate(
    stage: Stage,
    entering: Mapping[int, Rows | None],
    operators: Sequence[Operator],
    late: Mapping[str, int],
    closed_before: Mapping[str, int],
    lane_starts: Sequence[int],
    instances: Instances,
    places: Callable[[], Places] = lambda: NOWHERE,
) -> Leaving:
    """Run all steps of `stage` in order.

    Parameters
    ----------
    entering
        Rows of each source (level 0) and of each operator whose state lives at this level, by the id() of its node:
        within one compiled plan, a node is itself and no other that looks alike.
    operators
        All operators of the plan.
    late
        Operator id -> W(N-1) of its input: late rows tell it.
    closed_before
        Operator id -> before what windows take no more rows: judges rows late before they are aggregated.
    lane_starts
        First hash of each lane.
    instances
        Classes of the plan, instantiated.
    places
        Where the rows that enter stand in the row order.
    """
    leaving = Leaving()
    rows: list[Rows | None] = []
    feeds = [(next(o for o in operators if o.id == name), at) for name, at in stage.feeds]
    late_of: dict[str, Rows | None] = {}

    def feed(operator: Operator, found: Rows | None) -> None:
        windowed, lost = (
            (None, None)
            if found is None
            else split_late(
                found,
                operator.node,
                operator.id,
                watermark_us=late[operator.id],
                closed_before_us=closed_before[operator.id],
            )
        )
        late_of[operator.id] = lost
        leaving.late_rows[operator.id] = len(lost) if lost is not None else 0
        if windowed is None:
            # Consumers ask for their element of every lane: nothing is an answer, too.
            nothing = pa.Table.from_batches([], partial_schema(operator.node))
            leaving.exchange[operator.id] = (nothing,) * len(lane_starts)
        else:
            partials = partial(windowed, operator.node, places)
            leaving.exchange[operator.id] = split(partials, operator.node.keys, lane_starts)

    for at, step in enumerate(stage.steps):
        match step.node:
            case Source() | WindowAggregate() | RunningAggregate() | BadRecords():
                rows.append(entering.get(id(step.node)))
            case Late():
                rows.append(late_of[_id_of(step.node, operators)])
            case _:
                passed = apply(step.node, tuple(rows[i] for i in step.inputs), instances)
                if passed is not None and isinstance(step.node, Watermark):
                    leaving.timed.append((passed, step.node.column))
                rows.append(passed)
        for operator, source in feeds:
            if source == at:
                feed(operator, rows[at])
    for name, at in stage.sinks:
        out = rows[at]
        if out is not None and len(out):
            leaving.sinks.append((name, out))
    return leaving


def _id_of(node: Late, operators: Sequence[Operator]) -> str:
    for operator in operators:
        if operator.node is node.operator:
            return operator.id
    raise InternalError(".late of an operator that is not in the plan")
