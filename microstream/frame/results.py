"""Results of a plan in this process: its first rows, and which output modes can be had."""

from __future__ import annotations

from typing import Literal, TypeAlias

import pandas as pd

from microstream.connectors.memory.sink import MemorySink
from microstream.errors import PlanError
from microstream.plan.dtypes import to_frame
from microstream.plan.nodes import Node, Sink
from microstream.plan.stages import cut
from microstream.runtime.preview import preview

__all__ = ["OutputMode", "check_output_mode", "head_of"]

OutputMode: TypeAlias = Literal["append", "update", "complete"]


def check_output_mode(mode: str | None) -> None:
    """Raise PlanError unless results can be had in `mode`."""
    if mode in (None, "append"):
        return
    if mode in ("update", "complete"):
        raise PlanError(
            f"compute(output_mode={mode!r}): aggregates over windows give final rows only, so 'append' is the one mode "
            "there is. Leave output_mode out."
        )
    raise PlanError(f"compute(output_mode={mode!r}): must be 'append', 'update' or 'complete'.")


def head_of(node: Node, n: int) -> pd.DataFrame:
    """The first `n` rows of `node`, in the order in which they come."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise PlanError(f"head({n!r}): give the number of rows, at least 0. Rows from the end of a stream never come.")
    stages = cut((Sink(child=node, name="head", spec=MemorySink()),))
    table = preview(stages, n) if n else node.schema.empty_table()
    return to_frame(table.slice(0, n).cast(node.schema))
