"""A compiled plan as people read it: stages, what runs in each, and what leaves it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from microstream.plan.nodes import RunningAggregate, Source, Stateful, WindowAggregate
from microstream.plan.stages import Operator, Stage, Stages, Step
from microstream.plan.text import describe, duration, schema_text

__all__ = ["explain"]


def explain(stages: Stages) -> str:
    """The plan as text: one block per stage, steps in the order in which a lane runs them.

    A number in brackets names a step of its stage; "<- [0]" says whose rows it takes. Names only, no values: the
    text holds no credentials.
    """
    lines = [
        f"{_count(len(stages.sources), 'source')}, {_count(len(stages.operators), 'stateful operator')}, "
        f"{_count(len(stages.stages), 'stage')}, {_count(len(stages.sinks), 'sink')}; plan {stages.fingerprint[:12]}"
    ]
    for stage in stages.stages:
        lines += ["", f"stage {stage.level}: one task per lane"]
        lines += _stage(stage, stages)
    return "\n".join(lines)


def _stage(stage: Stage, stages: Stages) -> Iterator[str]:
    operators = {id(operator.node): operator for operator in stages.operators}
    named = {operator.id: operator for operator in stages.operators}
    for at, step in enumerate(stage.steps):
        operator = operators.get(id(step.node))
        yield f"  [{at}] {_step(step, operator)}"
        for detail in _details(step, operator, stages.timed):
            yield f"        {detail}"
    for operator_id, at in stage.feeds:
        keys = named[operator_id].node.keys
        by = f"by hash of {', '.join(keys)}" if keys else "all to one lane,"
        yield f"  [{at}] => exchange {by} to {operator_id} in stage {named[operator_id].level}"
    sinks = {sink.name: sink for sink in stages.sinks}
    for name, at in stage.sinks:
        spec = sinks[name].spec
        where = " ".join(part for part in (spec.kind, spec.target, spec.format) if part)
        yield f"  [{at}] -> sink {name}: {where}, {spec.guarantee}"


def _step(step: Step, operator: Operator | None) -> str:
    text = describe(step.node if operator is None else replace(operator.node, id=operator.id))
    taken = ", ".join(f"[{at}]" for at in step.inputs)
    return f"{text} <- {taken}" if taken else text


def _details(step: Step, operator: Operator | None, timed: frozenset[str]) -> Iterator[str]:
    node = step.node
    if isinstance(node, Source):
        yield f"reads {schema_text(node)}"
        if node.takes_batch_time:
            yield "watermark: the time of each batch, also of one without rows; never idle"
        elif node.event_time is not None or node.name in timed:
            idle = "never" if node.idle_timeout_us is None else f"after {duration(node.idle_timeout_us)} of quiet"
            time = "event time below" if node.name in timed else node.event_time
            yield f"watermark: {time} - {duration(node.delay_us)}, least of all partitions; idle {idle}"
    if operator is not None:
        yield _state(operator)
        yield f"{_emitted(operator.node)}, as {schema_text(node)}"


def _state(operator: Operator) -> str:
    match operator.node:
        case RunningAggregate(keys=keys):
            return f"state per lane; one row per {', '.join(keys)}, kept for ever" if keys else "state: one row"
        case WindowAggregate(mode="complete"):
            return "state per lane; windows stay for ever"
        case WindowAggregate():
            return f"state per lane; closes windows by the least watermark of {', '.join(operator.sources)}"


def _emitted(node: Stateful) -> str:
    which = "key and window" if isinstance(node, WindowAggregate) else "key"
    if isinstance(node, WindowAggregate) and node.revises:
        return f"append: each {which} once, and again whenever it changes within {duration(node.lateness_us)}"
    match node.mode:
        case "append":
            return f"append: each {which} once"
        case "update":
            return f"update: each {which} whose value changed, once per batch"
        case "complete":
            return f"complete: every {which} in every batch"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
