"""Results of a plan in this process: its first rows."""

from __future__ import annotations

import pandas as pd

from microstream.connectors.memory.sink import MemorySink
from microstream.errors import PlanError
from microstream.plan.dtypes import to_frame
from microstream.plan.nodes import Node, Sink
from microstream.plan.stages import cut
from microstream.runtime.preview import preview

__all__ = ["head_of"]


def head_of(node: Node, n: int) -> pd.DataFrame:
    """The first `n` rows of `node`, in the order in which they come."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise PlanError(f"head({n!r}): give the number of rows, at least 0. Rows from the end of a stream never come.")
    stages = cut((Sink(child=node, name="head", spec=MemorySink()),))
    table = preview(stages, n) if n else node.schema.empty_table()
    return to_frame(table.slice(0, n).cast(node.schema))
