"""Variance and standard deviation, by sums of squared deviations that do not cancel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microstream.operators.folds.protocol import Ask, Column, Folding, Groups, Values
from microstream.operators.nulls import float_rules

__all__ = ["Spread"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Count, mean and sum of squared deviations; merged as in Chan, Golub and LeVeque, "Updating Formulae" (1979).

    Sums of squares would lose every digit of the variance of large numbers that lie close together.
    """

    name: str
    ddof: int
    root: bool

    @property
    def fields(self) -> tuple[pa.Field[Any], ...]:
        return (
            pa.field(f"{self.name}:count", pa.int64()),
            pa.field(f"{self.name}:mean", pa.float64()),
            pa.field(f"{self.name}:squares", pa.float64()),
        )

    def update(self, values: Values) -> Folding:
        column = values.masked
        real = column.cast(pa.float64(), safe=False)
        return Folding(asks=(Ask(real, "count"), Ask(real, "mean"), Ask(real, "variance")), collect=_deviations)

    def merge(self, state: Sequence[Column]) -> Folding:
        count, mean, squares = (column.to_numpy() for column in state)

        def collect(_: Sequence[Column], groups: Groups) -> list[Any]:
            n, m, s = count[groups.rows], mean[groups.rows], squares[groups.rows]
            total = groups.sums(n)
            with np.errstate(invalid="ignore"):
                center = groups.sums(n * m) / np.maximum(total, 1)
                away = m - np.repeat(center, groups.lengths)
                merged = groups.sums(s + n * away * away)
            return [pa.array(total), pa.array(center), pa.array(merged)]

        return Folding(asks=(), collect=collect, by_group=True)

    def finish(self, state: Sequence[Column]) -> Column:
        count, _, squares = state
        taken: Any = pa.scalar(float(self.ddof))
        free: Any = pc.subtract(count.cast(pa.float64()), taken)
        enough: Any = pc.if_else(pc.greater(free, pa.scalar(0.0)), free, pa.scalar(None, pa.float64()))
        variance: Any = pc.divide(squares, enough)
        return float_rules(pc.sqrt(variance) if self.root else variance)


def _deviations(answers: Sequence[Column], _: Groups) -> list[Any]:
    count: Any = answers[0]
    mean: Any = answers[1]
    squares: Any = pc.multiply(answers[2], count.cast(pa.float64()))
    return [count, pc.fill_null(mean, 0.0), pc.fill_null(squares, 0.0)]
