"""Aggregates that keep values: distinct ones for nunique, all of them for list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microstream.operators.folds.protocol import Ask, Column, Folding, Groups, Ints, Values
from microstream.operators.order import ORDER, Order

__all__ = ["Distinct", "Listed"]

_VALID = pc.CountOptions(mode="only_valid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Distinct:
    """How many different values, null left out: exact, and so keeps each of them."""

    name: str
    type: pa.DataType

    @property
    def fields(self) -> tuple[pa.Field[Any], ...]:
        return (pa.field(self.name, pa.list_(self.type)),)

    def update(self, values: Values) -> Folding:
        return Folding(asks=(Ask(values.masked, "distinct", _VALID),))

    def merge(self, state: Sequence[Column]) -> Folding:
        column = state[0]

        def collect(_: Sequence[Column], groups: Groups) -> list[Any]:
            values, lengths = _gathered(column, groups)
            owner = pa.array(np.repeat(np.arange(len(lengths)), lengths))
            pairs = pa.table({"owner": owner, "value": values})
            pairs = pairs.group_by(["owner", "value"], use_threads=False).aggregate([])
            # Groups come in any order: that of their first row for some types, but not for floats.
            owners = pairs["owner"].to_numpy()
            by_owner: Any = pa.array(np.argsort(owners, kind="stable"))
            left = np.bincount(owners, minlength=len(lengths))
            return [_lists(pairs["value"].combine_chunks().take(by_owner), left)]

        return Folding(asks=(), collect=collect, by_group=True)

    def finish(self, state: Sequence[Column]) -> Column:
        lengths: Any = pc.list_value_length(state[0])
        counts: Column = lengths.cast(pa.int64())
        return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """All values with the order of their rows, null included; sorted when the window closes."""

    name: str
    type: pa.DataType

    @property
    def fields(self) -> tuple[pa.Field[Any], ...]:
        return (pa.field(self.name, pa.list_(pa.struct([pa.field("value", self.type), *ORDER]))),)

    def update(self, values: Values) -> Folding:
        def collect(_: Sequence[Column], groups: Groups) -> list[Any]:
            rows, lengths = groups.rows, groups.lengths
            if values.where is not None:
                counts = values.where.to_numpy(zero_copy_only=False)[rows]
                rows, lengths = rows[counts], groups.sums(counts.astype(np.int64))
            column: Any = values.column
            chosen: Any = pa.array(rows)
            parts = [column.combine_chunks().take(chosen), *values.order().take(chosen).flatten()]
            fields = [pa.field("value", self.type), *ORDER]
            return [_lists(pa.StructArray.from_arrays(parts, fields=fields), lengths)]

        return Folding(asks=(), collect=collect, by_group=True)

    def merge(self, state: Sequence[Column]) -> Folding:
        column = state[0]
        return Folding(asks=(), collect=lambda _, groups: [_joined(column, groups)], by_group=True)

    def finish(self, state: Sequence[Column]) -> Column:
        lists: Any = state[0].combine_chunks()
        lengths = _lengths(lists)
        values, *order = lists.flatten().flatten()
        structs = pa.StructArray.from_arrays(order, fields=list(ORDER))
        owner = np.repeat(np.arange(len(lengths)), lengths)
        rows = Order.stored(structs).sorted(owner)
        return pa.chunked_array([_lists(values.take(rows), lengths)])


def _joined(column: Column, groups: Groups) -> Any:
    values, lengths = _gathered(column, groups)
    return _lists(values, lengths)


def _gathered(column: Column, groups: Groups) -> tuple[Any, Ints]:
    """Elements of a list column, group by group, and how many each group has."""
    lists: Any = column.combine_chunks().take(groups.rows)
    return lists.flatten(), groups.sums(_lengths(lists))


def _lengths(lists: Any) -> Ints:
    lengths: Ints = pc.list_value_length(lists).fill_null(0).to_numpy().astype(np.int64)
    return lengths


def _lists(values: Any, lengths: Ints) -> Any:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    bounds: Any = pa.array(offsets)
    return pa.ListArray.from_arrays(bounds, values)
