"""Cut a plan into stages at exchanges.

Every node contributes rows at one or more *levels*. A source contributes at level 0; a stateful operator at one
level above the highest level of its input; a stateless node at every level at which its input does. Stage k is one
task per lane: it merges the operators of level k, runs every stateless node that contributes at level k (each once),
hands late and partial rows of the operators above to the exchange, and the rows of sinks to the outbox.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from microstream.errors import PlanError
from microstream.plan.event_times import check_one_time, timed_sources, with_delays
from microstream.plan.modes import with_modes
from microstream.plan.nodes import Late, Node, RunningAggregate, Sink, Source, Stateful, WindowAggregate
from microstream.plan.rules import children, in_order, name_sources, optimise
from microstream.plan.text import canonical_text

__all__ = ["Operator", "Stage", "Stages", "Step", "cut"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A stateful node with its identity in the checkpoint.

    `id` is the given name or "aggregate-0", ...; `level` is where its state lives; `inputs` are the levels at which
    its input contributes rows (each below `level`); `sources` are the names of the sources above it.
    """

    id: str
    node: Stateful
    level: int
    inputs: tuple[int, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Evaluate `node` within one stage. `inputs` are positions of earlier steps of the same stage.

    Source: no inputs. An aggregate: no inputs (its rows come from its state). Late: the input is the step of the
    operator's input rows, of which it is given those found late *in this stage*.
    """

    node: Node
    inputs: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One level: `steps` in order; then `feeds` (operator id, step) go to the exchange and `sinks` to the outbox."""

    level: int
    steps: tuple[Step, ...]
    feeds: tuple[tuple[str, int], ...]
    sinks: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """The compiled plan: shipped to workers once.

    `sinks` in the order given; `sources` and `operators` in a stable order; `fingerprint` is equal for equal plans.
    `timed` are the sources whose event time is set by `with_watermark`: rows that pass there move their ledger.
    """

    stages: tuple[Stage, ...]
    sources: tuple[Source, ...]
    operators: tuple[Operator, ...]
    sinks: tuple[Sink, ...]
    fingerprint: str
    timed: frozenset[str] = frozenset()

    def dropping(self) -> tuple[str, ...]:
        """Ids of the operators over windows whose late rows nobody reads."""
        read = [step.node.operator for stage in self.stages for step in stage.steps if isinstance(step.node, Late)]
        windows = [operator for operator in self.operators if isinstance(operator.node, WindowAggregate)]
        return tuple(each.id for each in windows if not any(each.node is node for node in read))


def cut(sinks: tuple[Sink, ...]) -> Stages:
    """Compile the plan that feeds `sinks`.

    Raises
    ------
    PlanError
        There is no sink; two sinks, two sources or two operators have one name; an output mode is not possible.
    """
    if not sinks:
        raise PlanError("there is no sink. Give at least one, as in frame.to_memory().")
    given = [sink.name for sink in sinks]
    _require_distinct("sinks", "give one of them another name=", given)
    # By name: ids and fingerprint do not depend on the order in which sinks are given.
    plan = optimise(with_modes(name_sources(tuple(sorted(sinks, key=lambda sink: sink.name)))))
    timed = timed_sources(in_order(tuple(sink.child for sink in plan)))
    plan = with_delays(plan, timed)
    nodes = in_order(tuple(sink.child for sink in plan))
    levels = _levels(nodes)
    operators = _operators(nodes, levels)
    check_one_time((operator.node for operator in operators), timed)
    height = 1 + max(max(found) for found in levels.values())
    return Stages(
        stages=tuple(_stage(level, nodes, levels, operators, plan) for level in range(height)),
        sources=tuple(sorted((n for n in nodes if isinstance(n, Source)), key=lambda source: source.name)),
        operators=operators,
        sinks=tuple(sorted(plan, key=lambda sink: given.index(sink.name))),
        fingerprint=hashlib.sha256(canonical_text(plan).encode()).hexdigest(),
        timed=frozenset(timed),
    )


_Levels = Mapping[int, frozenset[int]]
"""id of a node -> the levels at which it contributes rows."""


def _levels(nodes: tuple[Node, ...]) -> _Levels:
    levels: dict[int, frozenset[int]] = {}
    for node in nodes:
        match node:
            case Source():
                levels[id(node)] = frozenset({0})
            case WindowAggregate(child=child) | RunningAggregate(child=child):
                levels[id(node)] = frozenset({1 + max(levels[id(child)])})
            case Late(operator=operator):
                levels[id(node)] = levels[id(operator.child)]
            case _:
                levels[id(node)] = frozenset().union(*(levels[id(child)] for child in children(node)))
    return levels


def _operators(nodes: tuple[Node, ...], levels: _Levels) -> tuple[Operator, ...]:
    stateful = [node for node in nodes if isinstance(node, WindowAggregate | RunningAggregate)]
    ids = [node.id or f"aggregate-{ordinal}" for ordinal, node in enumerate(stateful)]
    _require_distinct("operators", "give one of them another name with .named()", ids)
    return tuple(
        Operator(
            id=id_,
            node=node,
            level=max(levels[id(node)]),
            inputs=tuple(sorted(levels[id(node.child)])),
            sources=tuple(sorted(n.name for n in in_order((node,)) if isinstance(n, Source))),
        )
        for id_, node in zip(ids, stateful, strict=True)
    )


def _stage(
    level: int,
    nodes: tuple[Node, ...],
    levels: _Levels,
    operators: tuple[Operator, ...],
    sinks: tuple[Sink, ...],
) -> Stage:
    here = [node for node in nodes if level in levels[id(node)]]
    position = {id(node): at for at, node in enumerate(here)}
    return Stage(
        level=level,
        steps=tuple(Step(node=n, inputs=tuple(position[i] for i in _inputs(n) if i in position)) for n in here),
        feeds=tuple((o.id, position[id(o.node.child)]) for o in operators if id(o.node.child) in position),
        sinks=tuple((s.name, position[id(s.child)]) for s in sinks if id(s.child) in position),
    )


def _inputs(node: Node) -> tuple[int, ...]:
    """ids of the nodes whose rows `node` takes within its stage."""
    match node:
        case WindowAggregate() | RunningAggregate():
            return ()
        case Late(operator=operator):
            return (id(operator.child),)
        case _:
            return tuple(id(child) for child in children(node))


def _require_distinct(what: str, advice: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PlanError(f"two {what} are named {', '.join(map(repr, twice))}: {advice}.")
