"""Column types: one Arrow type per kind of value, the pandas dtype that stands for it, and conversion both ways.

| declared as | Arrow | pandas |
|---|---|---|
| `int64` (also 8, 16, 32 bits, unsigned) | `int64`, never null | `int64` |
| `Int64` | `int64` | `Int64` |
| `float64`, `float32` | `double`, `float`; NaN is null | `float64`, `float32` |
| `bool` | `bool`, never null | `bool` |
| `boolean` | `bool` | `boolean` |
| `str` | `large_string` | `str` |
| `datetime64`, `timestamp[ms]`, `epoch[ms]` | `timestamp[us]`, UTC without zone | `datetime64[us]` |
| `timedelta64` | `duration[us]` | `timedelta64[us]` |
| `list[T]`, `decimal(p, s)`, `binary`, `date`, `time`, a mapping (struct) | as named | Arrow-backed |

In a record, `timestamp[...]` is ISO text and `epoch[...]` a number. A frame's dtypes follow from its schema, never
from its data: a batch without nulls looks like one with nulls.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from microstream.errors import InternalError, PlanError

__all__ = [
    "EPOCH",
    "TIME",
    "ArrowColumn",
    "Schema",
    "WrongColumnsError",
    "canonical",
    "canonical_schema",
    "dtype_of",
    "parse_schema",
    "schema_of",
    "to_array",
    "to_frame",
    "to_series",
    "to_table",
]

Schema: TypeAlias = Mapping[str, Any] | pa.Schema
ArrowColumn: TypeAlias = "pa.Array[Any] | pa.ChunkedArray[Any]"

STR = pd.StringDtype(na_value=np.nan)
TIME = pa.timestamp("us")
EPOCH = b"microstream"
"""Key of field metadata; with the value `b"epoch[ms]"` a record holds milliseconds since 1970 UTC."""

_INTS = {f"{sign}int{bits}": getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)}
_MASKED = {name.replace("uint", "UInt").replace("int", "Int"): kind for name, kind in _INTS.items()}
_NULLABLE: dict[str, pa.DataType] = {
    **_MASKED,
    "float32": pa.float32(),
    "float64": pa.float64(),
    "boolean": pa.bool_(),
    "str": pa.large_string(),
    "string": pa.large_string(),
    "datetime64": TIME,
    "timedelta64": pa.duration("us"),
    "binary": pa.large_binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
}
_UNITS = r"(s|ms|us|ns)"


class WrongColumnsError(ValueError):
    """A frame does not have the columns or types that it was declared to have."""


def parse_schema(schema: Schema) -> pa.Schema:
    """The Arrow schema of a mapping of column name to type name, or of an Arrow schema as its user wrote it.

    Parameters
    ----------
    schema
        Names to type names of the table above, Arrow types, or mappings (structs); or a `pyarrow.Schema`, whose
        text becomes `large_string` and whose timestamps become `timestamp[us]` in UTC.

    Raises
    ------
    PlanError
        A type is not known, or there are no columns.

    >>> parse_schema({"id": "int64", "tags": "list[str]", "at": "timestamp[ms]"})
    id: int64 not null
    tags: list<item: large_string>
      child 0, item: large_string
    at: timestamp[us]
    """
    if isinstance(schema, pa.Schema):
        fields: Iterable[pa.Field[Any]] = schema
        parsed = [_canonical_field(field) for field in fields]
    elif isinstance(schema, Mapping):
        parsed = [_parse_field(str(name), kind) for name, kind in schema.items()]
    else:
        raise PlanError(f"schema: {schema!r} is neither a mapping of names to types nor a pyarrow.Schema.")
    if not parsed:
        raise PlanError("schema: there are no columns. Name at least one, as in schema={'id': 'int64'}.")
    twice = sorted({f.name for f in parsed if [g.name for g in parsed].count(f.name) > 1})
    if twice:
        raise PlanError(f"schema: two columns are named {', '.join(map(repr, twice))}. Rename one of them.")
    return pa.schema(parsed)


def canonical_schema(schema: pa.Schema) -> pa.Schema:
    """`schema` with the one type that microstream uses for each kind of value; no metadata but `epoch[...]`."""
    return pa.schema([_canonical_field(field) for field in schema])


def canonical(kind: pa.DataType) -> pa.DataType:
    """The type that stands for `kind`.

    >>> canonical(pa.string()), canonical(pa.timestamp("ns", tz="Europe/Rome")), canonical(pa.list_(pa.string()))
    (DataType(large_string), TimestampType(timestamp[us]), ListType(list<item: large_string>))
    """
    inner: Any = kind
    if pa.types.is_string(kind) or pa.types.is_string_view(kind) or pa.types.is_large_string(kind):
        return pa.large_string()
    if pa.types.is_binary(kind) or pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_timestamp(kind):
        return TIME
    if pa.types.is_duration(kind):
        return pa.duration("us")
    if pa.types.is_time(kind):
        return pa.time64("us")
    if pa.types.is_date64(kind):
        return pa.date32()
    if pa.types.is_dictionary(kind):
        return canonical(inner.value_type)
    if pa.types.is_large_list(kind):
        return pa.large_list(_canonical_item(inner.value_field))
    if pa.types.is_list(kind):
        return pa.list_(_canonical_item(inner.value_field))
    if pa.types.is_struct(kind):
        return pa.struct([_canonical_field(inner.field(at)) for at in range(inner.num_fields)])
    if pa.types.is_null(kind):
        raise PlanError("a column that only ever holds null has no type. Declare one in schema=.")
    return kind


def _canonical_field(field: pa.Field[Any]) -> pa.Field[Any]:
    try:
        kind = canonical(field.type)
    except PlanError as problem:
        raise PlanError(f"column {field.name!r}: {problem}") from None
    epoch = (field.metadata or {}).get(EPOCH)
    if epoch is None:
        return pa.field(field.name, kind, nullable=field.nullable)
    if not re.fullmatch(rf"epoch\[{_UNITS}\]", epoch.decode()):
        raise PlanError(
            f"column {field.name!r}: metadata {epoch!r} is none of epoch[s], epoch[ms], epoch[us], epoch[ns]."
        )
    return pa.field(field.name, TIME, nullable=field.nullable, metadata={EPOCH: epoch})


def _canonical_item(field: pa.Field[Any]) -> pa.Field[Any]:
    return _canonical_field(field).with_name("item").with_nullable(True)


def _parse_field(name: str, kind: Any) -> pa.Field[Any]:
    if isinstance(kind, pa.Field):
        return _canonical_field(kind.with_name(name))
    if isinstance(kind, pa.DataType):
        return _canonical_field(pa.field(name, kind))
    if isinstance(kind, Mapping):
        return pa.field(name, pa.struct([_parse_field(str(n), k) for n, k in kind.items()]))
    text = {int: "int64", float: "float64", str: "str", bool: "bool"}.get(kind) or str(kind)
    if text in _INTS or text == "bool":
        return pa.field(name, _INTS.get(text, pa.bool_()), nullable=False)
    if re.fullmatch(rf"epoch\[{_UNITS}\]", text):
        return pa.field(name, TIME, metadata={EPOCH: text.encode()})
    return pa.field(name, _parse_type(name, text))


def _parse_type(column: str, text: str) -> pa.DataType:
    if text in _NULLABLE:
        return _NULLABLE[text]
    if re.fullmatch(rf"(timestamp|datetime64)\[{_UNITS}(, *UTC)?\]", text):
        return TIME
    if re.fullmatch(rf"(timedelta64|duration)\[{_UNITS}\]", text):
        return pa.duration("us")
    if match := re.fullmatch(r"list\[(.+)\]", text):
        item = _parse_field("item", match[1])
        return pa.list_(item.with_nullable(True))
    if match := re.fullmatch(r"decimal(?:128)?\((\d+), *(\d+)\)", text):
        return pa.decimal128(int(match[1]), int(match[2]))
    raise PlanError(
        f"schema: column {column!r} has the type {text!r}, which is not known. There are: int64 (never null), Int64, "
        "float64, bool (never null), boolean, str, datetime64, timestamp[ms] (ISO text), epoch[ms] (a number), "
        "timedelta64, list[...], decimal(p, s), binary, date, time, nested mappings, and pyarrow types."
    )


def dtype_of(field: pa.Field[Any]) -> Any:
    """The pandas dtype of a column.

    >>> str(dtype_of(pa.field("n", pa.int64()))), str(dtype_of(pa.field("n", pa.int64(), nullable=False)))
    ('Int64', 'int64')
    """
    kind = field.type
    if pa.types.is_integer(kind):
        name = str(kind)
        masked = name.replace("uint", "UInt") if name.startswith("u") else name.replace("int", "Int")
        return pd.api.types.pandas_dtype(masked if field.nullable else name)
    if pa.types.is_boolean(kind):
        return pd.BooleanDtype() if field.nullable else np.dtype("bool")
    if pa.types.is_floating(kind):
        return np.dtype(kind.to_pandas_dtype())
    if pa.types.is_large_string(kind):
        return STR
    if kind == TIME:
        return np.dtype("datetime64[us]")
    if kind == pa.duration("us"):
        return np.dtype("timedelta64[us]")
    return pd.ArrowDtype(kind)


def to_series(column: ArrowColumn, field: pa.Field[Any]) -> pd.Series[Any]:
    """`column` as pandas, sharing memory where it can; do not write into it."""
    dtype = dtype_of(field)
    if isinstance(dtype, np.dtype):
        if not field.nullable and dtype.kind in "iub" and column.null_count:
            raise InternalError(f"column {field.name!r} is declared never null, but holds {column.null_count} nulls.")
        values: Any = column.to_numpy(zero_copy_only=False)
        return pd.Series(values.astype(dtype, copy=False), copy=False)
    return pd.Series(dtype.__from_arrow__(column), copy=False)


def to_frame(table: pa.Table) -> pd.DataFrame:
    """`table` as pandas, with dtypes by its schema and a RangeIndex; a copy, which its user may write into."""
    columns = {field.name: to_series(table.column(at), field) for at, field in enumerate(table.schema)}
    return pd.DataFrame(columns, index=pd.RangeIndex(table.num_rows), copy=True)


def to_table(frame: pd.DataFrame, schema: pa.Schema, where: str) -> pa.Table:
    """`frame` as an Arrow table of exactly `schema`; the index is ignored, NaN becomes null.

    Raises
    ------
    WrongColumnsError
        Columns are missing or left over, values do not fit their type, or are null where they may not be.
    """
    names = [str(name) for name in frame.columns]
    missing = [name for name in schema.names if name not in names]
    extra = [name for name in names if name not in schema.names or names.count(name) > 1]
    if missing or extra:
        found = "; ".join(
            f"{what}: {', '.join(some)}" for what, some in (("missing", missing), ("not declared", extra)) if some
        )
        raise WrongColumnsError(f"{where}: wrong columns ({found}). Expected exactly: {', '.join(schema.names)}.")
    columns = [to_array(frame.iloc[:, names.index(field.name)], field, where) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def to_array(values: pd.Series[Any] | ArrowColumn, field: pa.Field[Any], where: str) -> ArrowColumn:
    """`values` as Arrow of the type of `field`; NaN becomes null.

    Numbers may change their width where nothing is lost, and whole floats may become integers (pandas turns integers
    with gaps into floats); nothing else is converted.

    Raises
    ------
    WrongColumnsError
        The values do not fit, or are null where they may not be.
    """
    try:
        array = _natural(values, field.type) if isinstance(values, pd.Series) else values
        array = _convert(array, field.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as problem:
        raise WrongColumnsError(
            f"{where}: column {field.name!r} is declared {dtype_of(field)}, but the values are "
            f"{_kind(values)} and do not fit ({problem})."
        ) from problem
    if not field.nullable and array.null_count:
        raise WrongColumnsError(
            f"{where}: column {field.name!r} is declared {dtype_of(field)}, which is never null, but "
            f"{array.null_count} of {len(array)} values are null. Declare a nullable type or fill them with fillna()."
        )
    return array


def schema_of(frame: pd.DataFrame, where: str, *, objects: bool = False) -> pa.Schema:
    """The schema whose dtypes are those of `frame`.

    Parameters
    ----------
    objects
        Look into the values of `object` columns instead of refusing them.

    Raises
    ------
    PlanError
        A column has no type of its own (object), or one that cannot be stored.
    """
    fields = []
    for at, name in enumerate(frame.columns):
        if not isinstance(name, str):
            raise PlanError(f"{where}: column names must be text, but one is {name!r}. Rename it.")
        fields.append(_field_of(frame.iloc[:, at], name, where, objects=objects))
    if len({field.name for field in fields}) < len(fields):
        raise PlanError(f"{where}: two columns have the same name. Columns: {', '.join(f.name for f in fields)}.")
    return pa.schema(fields)


def _field_of(series: pd.Series[Any], name: str, where: str, *, objects: bool) -> pa.Field[Any]:
    dtype = series.dtype
    if _is_object(series) and not objects:
        raise PlanError(
            f"{where}: the type of column {name!r} cannot be told (its dtype is object). Give schema=, as in "
            f"schema={{{name!r}: 'str'}}, or return a typed column, as with .astype('str')."
        )
    nullable = not (isinstance(dtype, np.dtype) and dtype.kind in "iub")
    try:
        sample = series if _is_object(series) else series.iloc[:0]
        return pa.field(name, canonical(pa.array(sample, from_pandas=True).type), nullable=nullable)
    except (pa.ArrowException, TypeError, ValueError) as problem:
        raise PlanError(f"{where}: column {name!r} of dtype {dtype} cannot be used: {problem}") from problem


def _natural(series: pd.Series[Any], wanted: pa.DataType) -> ArrowColumn:
    """The Arrow array of a Series in its own type; objects are read as `wanted`."""
    if _is_object(series):
        return pa.array(series, type=wanted, from_pandas=True)
    array: ArrowColumn = pa.array(series, from_pandas=True)
    if pa.types.is_floating(array.type) and not isinstance(series.dtype, np.dtype):
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, array.type), array)
    return array


def _convert(array: ArrowColumn, wanted: pa.DataType) -> ArrowColumn:
    have = array.type
    if have == wanted:
        return array
    if pa.types.is_null(have):
        return array.cast(wanted)
    if pa.types.is_dictionary(have):
        value_type: Any = have
        return _convert(array.cast(value_type.value_type), wanted)
    if pa.types.is_floating(wanted) and (pa.types.is_integer(have) or pa.types.is_floating(have)):
        return array.cast(wanted, safe=False)
    if _is_number(have) and pa.types.is_integer(wanted):
        return array.cast(wanted, safe=True)
    if pa.types.is_timestamp(have) and wanted == TIME:
        zone: Any = have
        utc = array.cast(pa.timestamp(zone.unit, "UTC")) if zone.tz else array
        return utc.cast(TIME, safe=False)
    if canonical(have) == wanted or (pa.types.is_decimal(have) and pa.types.is_decimal(wanted)):
        return array.cast(wanted, safe=not pa.types.is_duration(have))
    raise TypeError(f"{have} is not {wanted}")


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _kind(values: pd.Series[Any] | ArrowColumn) -> str:
    return str(values.dtype) if isinstance(values, pd.Series) else str(values.type)


def _is_object(series: pd.Series[Any]) -> bool:
    return isinstance(series.dtype, np.dtype) and series.dtype.kind == "O"
