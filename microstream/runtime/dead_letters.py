"""Bad records on their way to the sink that their source has for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from microstream.connectors.protocol import KeepingSource
from microstream.operators.rows import Rows
from microstream.plan.nodes import BadRecords, Node
from microstream.runtime.incoming import Incoming

__all__ = ["bad_rows"]


def bad_rows(nodes: Iterable[Node], incoming: Incoming) -> dict[int, Rows | None]:
    """The rows of those of `nodes` that are bad records, by id() of the node."""
    read = dict(zip(incoming.names, incoming.reads, strict=True))
    found: dict[int, Rows | None] = {}
    for node in nodes:
        if isinstance(node, BadRecords):
            of_source = read.get(node.child.name)
            kept = () if of_source is None else of_source.bad
            spec = cast(KeepingSource, node.child.spec)
            found[id(node)] = Rows(table=spec.letters(node.child.name, kept), origin=None) if kept else None
    return found
