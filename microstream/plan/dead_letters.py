"""The sinks that nobody wrote: one for the bad records of each source that keeps them."""

from __future__ import annotations

from microstream.plan.nodes import BadRecords, Sink, Source
from microstream.plan.rules import in_order
from microstream.plan.specs import DeadLettering

__all__ = ["with_dead_letters"]


def with_dead_letters(sinks: tuple[Sink, ...]) -> tuple[Sink, ...]:
    """`sinks`, and one named "SOURCE-dead-letters" for each source that keeps its bad records.

    So they are published as all rows are: with the batch, once.
    """
    found: dict[str, Sink] = {}
    for node in in_order(tuple(sink.child for sink in sinks)):
        letters = node.spec.dead_letters if isinstance(node, Source) and isinstance(node.spec, DeadLettering) else None
        if isinstance(node, Source) and letters is not None:
            bad = BadRecords(child=node, schema=letters.schema, event_time=letters.event_time)
            found.setdefault(node.name, Sink(child=bad, name=f"{node.name}-dead-letters", spec=letters.sink))
    return (*sinks, *found.values())
