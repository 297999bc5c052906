"""Where the rows that enter a stage stand in the one row order (semantics 29)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from microstream.operators.order import NOWHERE, Places, key_text, partition_text
from microstream.operators.rows import Rows
from microstream.plan.nodes import Stateful
from microstream.runtime.incoming import Incoming

__all__ = ["numbered", "places_of_reads", "places_of_results"]


def places_of_reads(incoming: Incoming) -> Places:
    """Of rows of sources: by source, topic, partition and offset."""
    names, counts = [], []
    for source, read in zip(incoming.names, incoming.reads, strict=True):
        names += [partition_text(source, count.partition) for count in read.counts]
        counts += [count.rows for count in read.counts]
    if not names:
        return NOWHERE
    text = pa.array(names, pa.large_string()).take(np.repeat(np.arange(len(names)), counts))
    return Places.of(text, np.concatenate([read.offsets for read in incoming.reads]))


def numbered(table: pa.Table, first: int) -> Rows:
    """Rows of an operator as they enter a stage, numbered from `first`."""
    return Rows(table=table, origin=np.arange(first, first + table.num_rows))


def places_of_results(entered: Sequence[tuple[Stateful, Rows]]) -> Places:
    """Of rows of operators, given in the order in which they are numbered: by key columns, then operator."""
    if not entered:
        return NOWHERE
    texts = [key_text(rows.table, node.keys) for node, rows in entered]
    offsets = np.repeat(np.arange(len(entered)), [len(rows) for _, rows in entered])
    return Places.of(pa.concat_arrays(texts), offsets)
