"""Aggregates whose state merges by an Arrow kernel: counts, sums, extremes, any and all; and the mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from microstream.operators.folds.protocol import SUM_OF_NOTHING_IS_ZERO, Ask, Column, Folding, Values
from microstream.operators.nulls import float_rules

__all__ = ["Counted", "Mean", "Single", "Truth"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Number of rows, nulls included."""

    name: str

    @property
    def fields(self) -> tuple[pa.Field[Any], ...]:
        return (pa.field(self.name, pa.int64()),)

    def update(self, values: Values) -> Folding:
        if values.where is None:
            return Folding(asks=(Ask(None, "count_all"),))
        return Folding(asks=(_sum(values.where.cast(pa.int64())),))

    def merge(self, state: Sequence[Column]) -> Folding:
        return Folding(asks=(_sum(state[0]),))

    def finish(self, state: Sequence[Column]) -> Column:
        return state[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Single:
    """One column: kernel `function` of values read as `reads`, merged by `again`; `result` is the output's type."""

    name: str
    reads: pa.DataType
    type: pa.DataType
    result: pa.DataType
    function: str
    again: str

    @property
    def fields(self) -> tuple[pa.Field[Any], ...]:
        return (pa.field(self.name, self.type),)

    def update(self, values: Values) -> Folding:
        column = values.masked
        read = column if column.type == self.reads else column.cast(self.reads, safe=False)
        return Folding(asks=(_ask(read, self.function),))

    def merge(self, state: Sequence[Column]) -> Folding:
        return Folding(asks=(_ask(state[0], self.again),))

    def finish(self, state: Sequence[Column]) -> Column:
        column = float_rules(state[0])
        return column if column.type == self.result else column.cast(self.result)


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Whether any or all of the values, null left out, are true (not 0); of nothing, all are and none is."""

    name: str
    how: str

    @property
    def fields(self) -> tuple[pa.Field[Any], ...]:
        return (pa.field(self.name, pa.bool_()),)

    def update(self, values: Values) -> Folding:
        column = values.masked
        true = column if pa.types.is_boolean(column.type) else pc.not_equal(column, pa.scalar(0, column.type))
        return Folding(asks=(Ask(true, self.how, SUM_OF_NOTHING_IS_ZERO),))

    def merge(self, state: Sequence[Column]) -> Folding:
        return Folding(asks=(Ask(state[0], self.how, SUM_OF_NOTHING_IS_ZERO),))

    def finish(self, state: Sequence[Column]) -> Column:
        return state[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """Sum and count. The sum is of floats, as in pandas: an int64 one would wrap after six times in nanoseconds."""

    name: str

    @property
    def fields(self) -> tuple[pa.Field[Any], ...]:
        return (pa.field(f"{self.name}:sum", pa.float64()), pa.field(f"{self.name}:count", pa.int64()))

    def update(self, values: Values) -> Folding:
        column = values.masked
        return Folding(asks=(_sum(column.cast(pa.float64(), safe=False)), Ask(column, "count")))

    def merge(self, state: Sequence[Column]) -> Folding:
        return Folding(asks=(_sum(state[0]), _sum(state[1])))

    def finish(self, state: Sequence[Column]) -> Column:
        # 0 / 0 is NaN, which is null: the mean of nothing.
        return float_rules(pc.divide(state[0], state[1].cast(pa.float64())))


def _ask(column: Any, function: str) -> Ask:
    return _sum(column) if function == "sum" else Ask(column, function)


def _sum(column: Any) -> Ask:
    return Ask(column, "sum", SUM_OF_NOTHING_IS_ZERO)
