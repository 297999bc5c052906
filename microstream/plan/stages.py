"""Cut a plan into stages at exchanges (seam; the body is being written).

Every node contributes rows at one or more *levels*. A source contributes at level 0; a stateful operator at one
level above the highest level of its input; a stateless node at every level at which its input does. Stage k is one
task per lane: it merges the operators of level k, runs every stateless node that contributes at level k (each once),
hands late and partial rows of the operators above to the exchange, and the rows of sinks to the outbox.
"""

from __future__ import annotations

from dataclasses import dataclass

from microstream.plan.nodes import Node, Sink, Source, WindowAggregate

__all__ = ["Operator", "Stage", "Stages", "Step", "cut"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A stateful node with its identity in the checkpoint.

    `id` is the given name or "aggregate-0", ...; `level` is where its state lives; `inputs` are the levels at which
    its input contributes rows (each below `level`); `sources` are the names of the sources above it.
    """

    id: str
    node: WindowAggregate
    level: int
    inputs: tuple[int, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Evaluate `node` within one stage. `inputs` are positions of earlier steps of the same stage.

    Source: no inputs. WindowAggregate: no inputs (its rows come from its state). Late: the input is the step of the
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
    """

    stages: tuple[Stage, ...]
    sources: tuple[Source, ...]
    operators: tuple[Operator, ...]
    sinks: tuple[Sink, ...]
    fingerprint: str


def cut(sinks: tuple[Sink, ...]) -> Stages:
    """Compile the plan that feeds `sinks`."""
    raise NotImplementedError
