"""Names of pandas that a stream cannot have, and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

import pandas as pd

from microstream.errors import AbsentError, PlanError
from microstream.later import FRAME as LATER
from microstream.later import later
from microstream.plan.aggregates import HOWS

__all__ = ["absent", "absent_column", "absent_reader"]

_WINDOW = 'groupby(keys).window(ms.tumbling("1min")).agg(name=(column, how))'
_TOTAL = f"agg(name=(column, how)) of all rows until now; by time, {_WINDOW}"
_COUNTS = "groupby(columns).size(), of all rows until now"
_BATCH = "map_batches(fn), which sees the rows of one batch"
_BOUNDED = "compute() where the input is finite, head(n) for a look, or a sink"
_NO_INDEX = "a column: there is no index, and what identifies a row is a column"
_NO_ORDER = "compute(), which sorts by event time, or a window: rows have no order among batches"
_EARLIER = "groupby(keys).window(spec) for values over time; a row cannot see the ones before it"
_LOCAL = f"{_BOUNDED}, then pandas' own"


def _for(replacement: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), replacement)


_BOTH: Mapping[str, str] = {
    **_for(_TOTAL, "agg aggregate all any count describe expanding max mean min nunique std sum var"),
    **_for(
        _WINDOW,
        "corr cov ewm idxmax idxmin kurt kurtosis median mode nlargest nsmallest prod product quantile rolling sem "
        "skew",
    ),
    **_for(_COUNTS, "unique value_counts"),
    **_for(_EARLIER, "asof bfill cummax cummin cumprod cumsum diff ffill interpolate pct_change rank shift"),
    **_for(
        _NO_INDEX,
        "add_prefix add_suffix align at_time axes between_time droplevel first_valid_index index last_valid_index "
        "reindex reindex_like rename_axis reorder_levels reset_index set_axis set_index sort_index swaplevel truncate "
        "tz_convert tz_localize xs unstack take squeeze",
    ),
    **_for(
        _BOUNDED,
        "size shape empty values to_numpy T transpose tail sample update memory_usage info plot hist boxplot compare "
        "equals to_dict array item",
    ),
    **_for(
        _LOCAL,
        "to_clipboard to_csv to_excel to_feather to_hdf to_html to_iceberg to_json to_latex to_markdown to_orc "
        "to_parquet to_pickle to_records to_sql to_stata to_string to_xarray to_xml to_list tolist style",
    ),
    **_for("[mask] for rows, [columns] for columns", "loc at iat get"),
    "copy": "the stream itself: it is immutable",
    **_for("explain(), schema and dtypes", "attrs flags set_flags ndim"),
    "append": "ms.concat([a, b])",
    "asfreq": f"{_WINDOW}; windows without rows give no row",
    "resample": f"{_WINDOW}; windows without rows give no row",
    "sort_values": _NO_ORDER,
    "convert_dtypes": 'astype("Int64") and the like: types may not follow from the data of a batch',
    "infer_objects": 'astype("Int64") and the like: types may not follow from the data of a batch',
    "dot": "sums of products: (a * x + b * y)",
    "divmod": "// and %",
    "rdivmod": "// and %",
    "drop_duplicates": f"{_WINDOW} by the columns that make a row unique",
    "duplicated": f"{_COUNTS}, with the columns that make a row unique",
    "combine": "where(), combine_first() or map_batches(fn)",
    "groupby": "frame.groupby(keys)",
    "to_period": ".dt.floor() or .dt.strftime(), or a window",
    "to_timestamp": '.astype("datetime64")',
    "iloc": f"[mask] for rows by condition; {_BOUNDED}",
    "items": "frame.columns, and frame[name] for each",
    "keys": "frame.columns",
    "iterrows": f"map_rows(fn, schema=), or {_BATCH}",
    "itertuples": f"map_rows(fn, schema=), or {_BATCH}",
}

_FRAME: Mapping[str, str] = {
    **_BOTH,
    **_for(
        "operators of columns, as in assign(total=ms.col('a') + ms.col('b'))",
        "abs add sub subtract mul multiply div divide truediv floordiv mod pow radd rsub rmul rdiv rtruediv rfloordiv "
        "rmod rpow eq ne lt le gt ge round clip combine_first isin isna isnull notna notnull mask where replace map "
        "applymap between",
    ),
    "iloc": f"[mask] for rows by condition, {_BOUNDED}",
    "apply": f"assign(name=expression), map_rows(fn, schema=) per row, or {_BATCH}",
    "transform": f"assign(name=expression), or {_BATCH}",
    "corrwith": _WINDOW,
    "insert": "assign(name=expression), then select(...) for the order",
    "isetitem": "assign(name=expression)",
    "pop": "drop(columns=...), and frame[name] for the column",
    "eval": "assign(name=expression), or query(text) for a condition",
    "melt": "explode() or map_rows(fn, schema=): one row becomes several",
    "stack": "explode() or map_rows(fn, schema=): one row becomes several",
    "pivot": "one aggregate per column, as in agg(a=('x', 'sum'), b=('y', 'sum'))",
    "pivot_table": "one aggregate per column, as in agg(a=('x', 'sum'), b=('y', 'sum'))",
    "select_dtypes": "[[...]] with names; frame.dtypes tells the types",
    "sparse": "columns that are not sparse",
    "from_dict": "ms.from_pandas(pd.DataFrame.from_dict(...))",
    "from_records": "ms.from_pandas(pd.DataFrame.from_records(...))",
    "from_arrow": "ms.from_pandas(table.to_pandas())",
}

_READERS: Mapping[str, str] = {
    **_for("ms.read_files(path), which reads JSON lines, CSV and Parquet", "read_csv read_json read_parquet"),
    **_for(
        "ms.from_pandas(frame), of what pandas reads",
        "read_clipboard read_excel read_feather read_fwf read_hdf read_html read_iceberg read_orc read_pickle read_sas "
        "read_spss read_sql read_sql_query read_sql_table read_stata read_table read_xml DataFrame",
    ),
}

_COLUMN: Mapping[str, str] = {
    **_BOTH,
    "apply": ".map(fn) value by value, or assign(name=lambda frame: ...) for the columns of a batch",
    "transform": ".map(fn) value by value, or assign(name=lambda frame: ...) for the columns of a batch",
    "dropna": "frame.dropna(subset=name)",
    "explode": "frame.explode(name)",
    "filter": "frame[mask]",
    "drop": "frame[mask]",
    "rename": "frame.rename(columns={old: new})",
    "head": "frame.head(n)",
    "repeat": "frame.map_rows(fn, schema=), which may give several rows for one",
    "to_frame": "frame[[name]]",
    "is_unique": _COUNTS,
    "hasnans": ".isna() row by row",
    "is_monotonic_increasing": _EARLIER,
    "is_monotonic_decreasing": _EARLIER,
    "argmax": _WINDOW,
    "argmin": _WINDOW,
    "argsort": _NO_ORDER,
    "searchsorted": _NO_ORDER,
    "autocorr": _WINDOW,
    "factorize": ".map({value: number}), with numbers that do not depend on the batch",
    "cat": '.astype("str"): text, whose values need not be known before',
    "sparse": '.astype("float64")',
    "name": "the name in frame[name]; repr() tells what the column is",
    "dtype": "frame.dtypes[name]",
    "dtypes": "frame.dtypes[name]",
    "nbytes": _BOUNDED,
    "pop": "frame.drop(columns=name)",
    "view": ".astype()",
    "ravel": _BOUNDED,
    "from_arrow": "ms.from_pandas(table.to_pandas())",
}


def absent_reader(name: str) -> Exception | None:
    """What to raise for `microstream.name`, where that is a function of pandas that reads."""
    if name not in _READERS:
        return None
    return AbsentError(f"microstream has no {name}. Instead: {_READERS[name]}.")


def absent(name: str, columns: list[str], methods: list[str]) -> Exception:
    """What to raise for the attribute `name` of a stream, which is neither one of `methods` nor one of `columns`."""
    if name in LATER:
        return later("a stream", name, LATER)
    if not name.startswith("_") and (name in _FRAME or hasattr(pd.DataFrame, name)):
        instead = _FRAME.get(name, f"row by row, assign(); over a time span, {_WINDOW}")
        return AbsentError(f"a stream has no .{name}. Instead: {instead}.")
    if name.startswith("_"):
        return AttributeError(f"StreamFrame has no attribute {name!r}")
    close = get_close_matches(name, methods, n=1)
    if close and not get_close_matches(name, columns, n=1):
        return AttributeError(f"frame.{name}: there is no such method or column. Did you mean .{close[0]}()?")
    return AttributeError(str(PlanError.unknown_column(f"frame.{name}", name, columns)))


def absent_column(name: str, text: str) -> Exception:
    """What to raise for the attribute `name` of the column that reads `text`."""
    if name.startswith("_") or not (name in _COLUMN or hasattr(pd.Series, name)):
        return AttributeError(f"a column has no attribute {name!r}")
    instead = _COLUMN.get(name, _BATCH)
    if instead in (_TOTAL, _WINDOW):
        how = name if name in HOWS else "sum"
        instead = "of the frame, " + instead.replace("(column, how)", f'("column", "{how}")')
    return AbsentError(
        f"{text}: .{name} is not available, for a stream has no whole column, only rows as they come. Instead: "
        f"{instead}."
    )
