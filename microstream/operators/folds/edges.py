"""First and last value in row order, null left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from microstream.operators.folds.protocol import Ask, Column, Folding, Groups, Values
from microstream.operators.order import ORDER, Order

__all__ = ["Edge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """The value and the order of the row that it is from; both null where there is none."""

    name: str
    type: pa.DataType
    last: bool

    @property
    def fields(self) -> tuple[pa.Field[Any], ...]:
        return (pa.field(self.name, self.type), pa.field(f"{self.name}:order", ORDER))

    def update(self, values: Values) -> Folding:
        return self._fold(values.masked, values.masked, values.order())

    def merge(self, state: Sequence[Column]) -> Folding:
        values, orders = state
        structs: Any = orders.combine_chunks()
        return self._fold(values, structs, Order.stored(structs))

    def finish(self, state: Sequence[Column]) -> Column:
        return state[0]

    def _fold(self, values: Any, there: Any, order: Order) -> Folding:
        """Where `there` is null, there is no value."""
        rows = order.sorted()
        ranks = np.empty(len(rows), np.int64)
        ranks[rows] = np.arange(len(rows))
        missing = there.is_null().to_numpy(zero_copy_only=False) if there.null_count else None

        def collect(answers: Sequence[Column], _: Groups) -> list[Any]:
            best: Any = answers[0].combine_chunks()
            numbers: Any = pa.array(rows)
            chosen: Any = numbers.take(best)
            return [values.take(chosen), order.take(chosen)]

        return Folding(asks=(Ask(pa.array(ranks, mask=missing), "max" if self.last else "min"),), collect=collect)
