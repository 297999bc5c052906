"""Rows as dicts of plain Python values, the way `map_rows` hands them over and takes them back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import pyarrow as pa

from microstream.plan.dtypes import WrongColumnsError, canonical_schema, to_array

__all__ = ["dicts_of", "schema_of_dicts", "table_of"]


def dicts_of(result: object, where: str) -> list[Mapping[str, Any]]:
    """What a function of a row returned: one dict, several, or None for no row.

    Raises
    ------
    WrongColumnsError
        It is something else.

    >>> dicts_of({"n": 1}, "map_rows"), dicts_of(None, "map_rows"), dicts_of([{"n": 1}, {"n": 2}], "map_rows")
    ([{'n': 1}], [], [{'n': 1}, {'n': 2}])
    """
    if result is None:
        return []
    if isinstance(result, Mapping):
        return [result]
    plain = isinstance(result, str | bytes) or not isinstance(result, Iterable)
    several: list[Any] = [result] if plain else list(cast(Iterable[Any], result))
    for row in several:
        if not isinstance(row, Mapping):
            raise WrongColumnsError(
                f"{where}: returned {type(row).__name__}. Return a dict for a row, a list of dicts for several, or "
                "None for none."
            )
    return several


def table_of(rows: Sequence[Mapping[str, Any]], schema: pa.Schema, where: str) -> pa.Table:
    """`rows` as a table of `schema`; NaN becomes null.

    Raises
    ------
    WrongColumnsError
        A value does not fit its type, or is null where it may not be.
    """
    return pa.Table.from_arrays([_column(rows, field, where) for field in schema], schema=schema)


def schema_of_dicts(rows: Sequence[Mapping[str, Any]]) -> pa.Schema:
    """The schema that `rows` have; whole numbers and truth values are never null where none of `rows` has a null.

    Raises
    ------
    PlanError
        A column holds nothing but null.
    WrongColumnsError
        Rows have different columns.
    """
    names = list(rows[0])
    if any(list(row) != names for row in rows):
        raise WrongColumnsError(f"rows have different columns: {names} and {list(rows[-1])}")
    fields = []
    for name in names:
        values = pa.array([row[name] for row in rows], from_pandas=True)
        whole = pa.types.is_integer(values.type) or pa.types.is_boolean(values.type)
        fields.append(pa.field(str(name), values.type, nullable=not whole or values.null_count > 0))
    return canonical_schema(pa.schema(fields))


def _column(rows: Sequence[Mapping[str, Any]], field: pa.Field[Any], where: str) -> Any:
    values = [row[field.name] for row in rows]
    try:
        array = pa.array(values, type=field.type, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as problem:
        raise WrongColumnsError(
            f"{where}: column {field.name!r} is declared {field.type}, but a value does not fit ({problem})."
        ) from problem
    return to_array(array, field, where)
