"""The steps that need no state: each row gives rows by itself. Every method adds one node to the plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

import pandas as pd
import pyarrow as pa

from microstream.clock import duration_us
from microstream.errors import PlanError
from microstream.frame.cleaning import filled, present, retyped
from microstream.frame.columns import Column, column_name, resolve
from microstream.frame.condition import caller_names, condition
from microstream.frame.piping import piped
from microstream.plan.dtypes import Schema, parse_schema, to_frame
from microstream.plan.event_times import require_traceable
from microstream.plan.expr import Column as Named
from microstream.plan.expr import Expr, callable_name
from microstream.plan.infer import BatchFormat, infer_batches, infer_column, infer_rows
from microstream.plan.nodes import Assign, Explode, Filter, MapBatches, MapRows, Node, Project, Watermark

__all__ = ["Steps"]


class Steps:
    """A plan of rows, and what can be done to each of them."""

    __slots__ = ("_node",)

    def __init__(self, node: Node) -> None:
        self._node = node

    @property
    def columns(self) -> pd.Index:
        """Names of the columns, in order."""
        return pd.Index(self._node.schema.names)

    @property
    def dtypes(self) -> pd.Series[Any]:
        """The pandas dtype of each column, which no batch changes."""
        return to_frame(self._node.schema.empty_table()).dtypes

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema; `not null` columns are never null."""
        return self._node.schema

    @property
    def event_time(self) -> str | None:
        """Name of the event-time column, None where there is none."""
        return self._node.event_time

    def filter(self, mask: Any) -> Self:
        """Rows for which `mask` is true; null counts as false. The same as `frame[mask]`.

        Parameters
        ----------
        mask
            A condition on columns, a callable that is given the pandas frame of a batch, or a `pandas.col`.
        """
        if isinstance(mask, str):
            raise PlanError(f"filter({mask!r}): a condition as text goes to query(...).")
        predicate = self._resolve(mask, "filter")
        found = infer_column(predicate, self.schema, "mask", "filter")
        if not pa.types.is_boolean(found.type):
            raise PlanError(f"filter: {predicate} gives {found.type}, not true or false. Compare it with something.")
        return self._of(Filter(child=self._node, predicate=predicate))

    def query(
        self,
        expr: str,
        *,
        local_dict: Mapping[str, Any] | None = None,
        global_dict: Mapping[str, Any] | None = None,
    ) -> Self:
        """Rows for which a condition in pandas' query language is true.

        Parameters
        ----------
        expr
            As in `"price > 100 and tag in ['a', 'b'] and seller != @me"`: columns by name (in backticks where the name
            is no identifier), `@name` for a variable here, `and or not in`, comparisons, arithmetic and methods of
            columns.
        local_dict, global_dict
            Values of `@name`, instead of the variables of the caller.

        Raises
        ------
        PlanError
            A column or variable is not there, or the text is no condition.

        Examples
        --------
        >>> import pandas as pd
        >>> import microstream as ms
        >>> least = 100
        >>> ms.from_pandas(pd.DataFrame({"price": [80, 120]})).query("price > @least").compute()
           price
        0    120
        """
        given = local_dict is not None or global_dict is not None
        names = {**(global_dict or {}), **(local_dict or {})} if given else caller_names(depth=2)
        return self.filter(condition(expr, self.schema.names, names))

    def dropna(
        self,
        *,
        how: Literal["any", "all"] = "any",
        thresh: int | None = None,
        subset: str | Sequence[str] | None = None,
    ) -> Self:
        """Rows that are not null.

        Parameters
        ----------
        how
            "any" drops a row with any null, "all" one with nothing but nulls.
        thresh
            Keep rows with at least so many values; instead of `how`.
        subset
            Columns to look at; all by default.
        """
        names = self._names("dropna", subset, default=self.schema.names)
        return self.filter(present([self._column(name) for name in names], how, thresh))

    def fillna(self, value: Any) -> Self:
        """Nulls replaced by `value`.

        Parameters
        ----------
        value
            One plain value for every column that may be null, or a mapping of columns to values, columns or callables.

        Raises
        ------
        PlanError
            The value does not fit the type of a column. Name the columns it is for in a mapping.
        """
        if isinstance(value, Mapping):
            self._require("fillna", list(value))
        return self._replaced(filled(value, self.schema), "fillna")

    def astype(self, dtype: Any) -> Self:
        """Columns with other types.

        Parameters
        ----------
        dtype
            A type as in `schema=` of a source ("float64", "Int64", "str", "datetime64"), for all columns, or a mapping
            of columns to types.

        Raises
        ------
        PlanError
            A type is not known, or cannot be made of what the column is.
        """
        if isinstance(dtype, Mapping):
            self._require("astype", list(dtype))
        return self._replaced(retyped(dtype, self.schema), "astype")

    def select(self, *columns: str | Column | Sequence[str | Column], **exprs: Any) -> Self:
        """Exactly these columns: those named, then those computed.

        Parameters
        ----------
        *columns
            Names (or columns, as `ms.col("x")` and `frame["x"]`), or lists of them.
        **exprs
            New name = expression, callable or plain value.
        """
        flat = [n for c in columns for n in (c if isinstance(c, list | tuple | pd.Index) else [c])]
        names = [column_name(n, self._node, "select") for n in flat]
        self._require("select", names)
        pairs: list[tuple[str, Expr]] = [(name, Named(name)) for name in names]
        pairs += [(name, self._resolve(value, "select")) for name, value in exprs.items()]
        return self._project(pairs, "select")

    def assign(self, **exprs: Any) -> Self:
        """All columns, with these added or replaced; later ones see earlier ones, as in pandas.

        Parameters
        ----------
        **exprs
            Name = expression, plain value, or a callable that is given the pandas frame of a batch. A callable is
            called once now, with two made-up rows, to learn its type; it must give one value per row.

        Raises
        ------
        PlanError
            A column is not there, or a type cannot be told.
        """
        node = self._node
        for name, value in exprs.items():
            expr = resolve(value, node, "assign")
            found = infer_column(expr, node.schema, name, "assign")
            node = Assign(child=node, name=name, expr=expr, dtype=found.type, nullable=found.nullable)
        return self._of(node)

    def rename(
        self,
        columns: Mapping[str, str] | Callable[[str], str],
        *,
        axis: Literal["columns", 1] = "columns",
        errors: Literal["raise", "ignore"] = "raise",
    ) -> Self:
        """Columns under new names; event time follows.

        Parameters
        ----------
        columns
            Old to new names, or a function of the old name.
        axis
            Only columns have names here.
        errors
            What to do with names that are not there. Unlike in pandas, "raise" is the default.
        """
        _require_columns("rename", axis, errors)
        if isinstance(columns, Mapping):
            if errors == "raise":
                self._require("rename", list(columns))
            new = [columns.get(name, name) for name in self.schema.names]
        else:
            new = [columns(name) for name in self.schema.names]
        if not all(isinstance(name, str) for name in new):
            raise PlanError(f"rename: column names must be text, not {new}.")
        return self._project([(n, Named(o)) for n, o in zip(new, self.schema.names, strict=True)], "rename")

    def drop(
        self,
        columns: str | Sequence[str],
        *,
        axis: Literal["columns", 1] = "columns",
        errors: Literal["raise", "ignore"] = "raise",
    ) -> Self:
        """All columns but these; dropping the event time unsets it. For rows see `filter` and `dropna`.

        Parameters
        ----------
        columns
            A name, or several.
        axis
            Only columns can be dropped by name.
        errors
            "ignore" passes over names that are not there.
        """
        _require_columns("drop", axis, errors)
        gone = [columns] if isinstance(columns, str) else list(columns)
        if errors == "raise":
            self._require("drop", gone)
        return self._project([(n, Named(n)) for n in self.schema.names if n not in gone], "drop")

    def explode(self, column: str | Sequence[str], ignore_index: bool = True) -> Self:
        """One row per element of a list column; an empty or null list gives one row with null, as in pandas.

        Parameters
        ----------
        column
            Its name, or several: their elements go side by side, so the lists of a row must have one length.
        ignore_index
            Changes nothing: a stream has no index.

        Raises
        ------
        UserFunctionError
            While the query runs: the lists of a row have different lengths.

        Examples
        --------
        >>> import pandas as pd
        >>> import microstream as ms
        >>> orders = ms.from_pandas(pd.DataFrame({"id": [1, 2], "sku": [["a", "b"], []], "n": [[3, 1], []]}))
        >>> orders.explode(["sku", "n"]).compute()
           id  sku     n
        0   1    a     3
        1   1    b     1
        2   2  NaN  <NA>
        """
        return self._of(Explode(child=self._node, columns=tuple(self._names("explode", column, default=()))))

    def map_batches(
        self, fn: Callable[..., Any], schema: Schema | None = None, batch_format: BatchFormat = "pandas"
    ) -> Self:
        """Rows as `fn` returns them for the rows of a batch (of one lane, so not of the whole batch).

        Parameters
        ----------
        fn
            Frame to frame; never called without rows. A class is instantiated once per worker, for models and
            connections.
        schema
            Columns that `fn` returns, exactly. None: `fn` is called once now, with two made-up rows, to learn them.
        batch_format
            "pandas" or "arrow": what `fn` is given. It may return either.

        Raises
        ------
        PlanError
            The columns cannot be told without `schema`.
        """
        if batch_format not in ("pandas", "arrow"):
            raise PlanError(f"map_batches: batch_format={batch_format!r} is neither 'pandas' nor 'arrow'.")
        if not callable(fn):
            raise PlanError(f"map_batches({fn!r}): give a function or a class.")
        name = f"map_batches({callable_name(fn)})"
        out = infer_batches(fn, self.schema, batch_format, "map_batches") if schema is None else parse_schema(schema)
        return self._of(MapBatches(child=self._node, fn=fn, schema=out, batch_format=batch_format, name=name))

    def map_rows(self, fn: Callable[..., Any], schema: Schema | None = None) -> Self:
        """Rows as `fn` returns them for each row: one for one, several, or none.

        For code that thinks in records. It is called once per row, at some microseconds a row beside its own work, so
        expressions and `map_batches` are faster by far.

        Parameters
        ----------
        fn
            Takes a row as a dict of plain Python values (null is None, a time a `datetime`), and returns a dict, a list
            of dicts, or None for no row. A class is instantiated once per worker.
        schema
            Columns of the dicts, exactly. None: `fn` is called once now, with two made-up rows, to learn them.

        Raises
        ------
        PlanError
            The columns cannot be told without `schema`.

        Examples
        --------
        >>> import pandas as pd
        >>> import microstream as ms
        >>> lines = ms.from_pandas(pd.DataFrame({"line": ["to be or", "", "not to be"]}))
        >>> lines.map_rows(lambda row: [{"word": w} for w in row["line"].split()], schema={"word": "str"}).head(3)
          word
        0   to
        1   be
        2   or
        """
        if not callable(fn):
            raise PlanError(f"map_rows({fn!r}): give a function or a class.")
        out = infer_rows(fn, self.schema, "map_rows") if schema is None else parse_schema(schema)
        return self._of(MapRows(child=self._node, fn=fn, schema=out, name=f"map_rows({callable_name(fn)})"))

    def with_watermark(self, column: str, delay: str) -> Self:
        """Make `column` the event time, out of order by up to `delay` within each partition of the source.

        For times that the source does not have as such: text that is parsed, a nested field. What passes here moves
        the watermark: rows that are filtered out before do not, so filter after it where partitions may hold nothing
        else.

        Parameters
        ----------
        column
            A time that is never null; drop other rows before, with `dropna`.
        delay
            A duration such as "10s"; rows further behind the newest of their partition may be late.

        Raises
        ------
        PlanError
            The column is no time, an aggregate or `map_batches` came before, or event time is set twice.

        Examples
        --------
        >>> import pandas as pd
        >>> import microstream as ms
        >>> clicks = ms.from_pandas(pd.DataFrame({"at": ["2026-01-01 10:00:05", "2026-01-01 10:00:40"]}))
        >>> timed = clicks.assign(ts=ms.col("at").astype("datetime64")).with_watermark("ts", "10s")
        >>> timed.window(ms.tumbling("1min")).size().compute()
                 window_start          window_end  size
        0 2026-01-01 10:00:00 2026-01-01 10:01:00     2
        """
        self._require("with_watermark", [column])
        require_traceable(self._node)
        delay_us = duration_us(delay, argument="with_watermark(delay)")
        return self._of(Watermark(child=self._node, column=column, delay_us=delay_us))

    def pipe(self, fn: Callable[..., Any] | tuple[Callable[..., Any], str], *args: Any, **kwargs: Any) -> Any:
        """`fn(self, *args, **kwargs)`, to write steps of one's own in a chain.

        Parameters
        ----------
        fn
            A function, or (function, keyword) where the frame is not its first argument.
        """
        return piped(self, fn, args, kwargs)

    def _of(self, node: Node) -> Self:
        return type(self)(node)

    def _column(self, name: str) -> Column:
        return Column(Named(name))

    def _resolve(self, value: Any, where: str) -> Expr:
        return resolve(value, self._node, where)

    def _names(self, where: str, names: str | Sequence[str] | None, default: Sequence[str]) -> list[str]:
        found = list(default) if names is None else [names] if isinstance(names, str) else list(names)
        self._require(where, found)
        return found

    def _require(self, where: str, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.schema.names:
                raise PlanError.unknown_column(where, name, self.schema.names)

    def _replaced(self, new: Mapping[str, Any], where: str) -> Self:
        """All columns in their order, those of `new` by what it holds."""
        pairs = [(n, self._resolve(new[n], where) if n in new else Named(n)) for n in self.schema.names]
        return self._project(pairs, where)

    def _project(self, pairs: Sequence[tuple[str, Expr]], where: str) -> Self:
        if not pairs:
            raise PlanError(f"{where}: no column would be left.")
        fields = [infer_column(expr, self.schema, name, where) for name, expr in pairs]
        kept = [name for name, expr in pairs if self.event_time is not None and expr == Named(self.event_time)]
        time = self.event_time if self.event_time in kept else next(iter(kept), None)
        exprs = tuple(expr for _, expr in pairs)
        return self._of(Project(child=self._node, exprs=exprs, schema=pa.schema(fields), event_time=time))


def _require_columns(where: str, axis: object, errors: object) -> None:
    if axis not in ("columns", 1):
        raise PlanError(f"{where}(axis={axis!r}): a stream has no index, so this is for columns only.")
    if errors not in ("raise", "ignore"):
        raise PlanError(f"{where}(errors={errors!r}): must be 'raise' or 'ignore'.")
