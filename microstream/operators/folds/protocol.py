"""What an aggregate must do: fold rows into a state, states into one, and a state into a result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from microstream.operators.order import Order

__all__ = ["SUM_OF_NOTHING_IS_ZERO", "Ask", "Column", "Fold", "Folding", "Groups", "Ints", "Values"]

Column: TypeAlias = "pa.ChunkedArray[Any]"
Ints: TypeAlias = npt.NDArray[np.int64]

SUM_OF_NOTHING_IS_ZERO = pc.ScalarAggregateOptions(min_count=0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Groups:
    """Which rows belong to each group: `rows[starts[g]:starts[g] + lengths[g]]`, none of them empty."""

    rows: Ints
    starts: Ints
    lengths: Ints

    @classmethod
    def of(cls, rows_by_group: Any) -> Groups:
        """From the lists of row numbers that Arrow's `list` aggregate gives."""
        lists = rows_by_group.combine_chunks()
        lengths = pc.list_value_length(lists).to_numpy().astype(np.int64)
        return cls(rows=lists.flatten().to_numpy(), starts=np.cumsum(lengths) - lengths, lengths=lengths)

    def sums(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Sum of `values`, which are in the order of `rows`, over each group."""
        total: npt.NDArray[Any] = np.add.reduceat(values, self.starts)
        return total


@dataclass(frozen=True, slots=True)
class Ask:
    """What Arrow is to do per group: `function` of `column`; None counts rows."""

    column: Any
    function: str
    options: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Folding:
    """Work on the rows of one `group_by`: what to ask of Arrow, and how the answers become columns of the state.

    `collect` is given one answer per ask, and `Groups` if `by_group`; None: the answers are the state.
    """

    asks: tuple[Ask, ...]
    collect: Callable[[Sequence[Column], Groups], Sequence[Any]] | None = None
    by_group: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Values:
    """Input of one aggregate.

    Attributes
    ----------
    column
        One value per row, NaN as null; None for how="size" without a column.
    where
        Which rows count, without nulls; None: all.
    order
        The rows' place in the one row order (semantics 29).
    """

    column: Column | None
    where: pa.Array[Any] | None
    order: Callable[[], Order]

    @cached_property
    def masked(self) -> Any:
        """The column with null for rows that do not count."""
        column: Any = self.column
        return column if self.where is None else pc.if_else(self.where, column, pa.scalar(None, column.type))


class Fold(Protocol):
    """One aggregate; merging is associative and commutative (floats up to rounding).

    What `update` gives is merged already: to merge it alone changes nothing, so that a group of one part need not be.
    """

    @property
    def fields(self) -> tuple[pa.Field[Any], ...]:
        """Columns of the state."""
        ...

    def update(self, values: Values) -> Folding:
        """Rows -> state."""
        ...

    def merge(self, state: Sequence[Column]) -> Folding:
        """States, several per group -> one each."""
        ...

    def finish(self, state: Sequence[Column]) -> Column:
        """Results."""
        ...
