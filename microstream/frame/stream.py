"""StreamFrame: what a user holds. Every method adds one node to an immutable plan and returns a new frame."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import pandas as pd
import pyarrow as pa

from microstream.errors import PlanError
from microstream.frame.absent import absent
from microstream.frame.binding import Binding
from microstream.frame.columns import Column, resolve
from microstream.frame.grouped import GroupBy, WindowedGroups
from microstream.frame.run import explain_node, results_of
from microstream.frame.sinks import Delivery, StreamSink, kafka_sink, memory_sink, null_sink
from microstream.plan.dtypes import Schema, parse_schema, to_frame
from microstream.plan.expr import Column as Named
from microstream.plan.expr import Expr, callable_name
from microstream.plan.infer import BatchFormat, infer_batches, infer_column
from microstream.plan.nodes import (
    Assign,
    Explode,
    Filter,
    Late,
    MapBatches,
    Node,
    Project,
    Sliding,
    Tumbling,
    WindowAggregate,
)

__all__ = ["StreamFrame"]


class StreamFrame:
    """An unbounded data frame: a plan of what to do with rows as they arrive. Immutable, and without an index.

    Made by `ms.read_kafka` or `ms.from_pandas`. Columns are `frame["x"]`, `frame.x` (where no method has that name)
    or, for any frame, `ms.col("x")`.

    Examples
    --------
    >>> import pandas as pd
    >>> import microstream as ms
    >>> bids = ms.from_pandas(pd.DataFrame({"auction": [1, 2, 1], "price": [120.0, 80.0, 300.0]}))
    >>> bids[bids["price"] > 100].assign(eur=ms.col("price") * 0.5).compute()
       auction  price    eur
    0        1  120.0   60.0
    1        1  300.0  150.0
    """

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

    @property
    def late(self) -> StreamFrame:
        """Rows that came too late for the aggregate which this frame is the result of.

        They carry `_operator`, `_watermark` and `_window_end`, and may go to any sink, but into no other aggregate.

        Raises
        ------
        PlanError
            The frame is not directly the result of an aggregate.
        """
        return StreamFrame(Late(operator=self._operator(".late")))

    def named(self, id: str) -> StreamFrame:
        """Give the aggregate an id, by which it finds its state again after the query was changed.

        Parameters
        ----------
        id
            Letters, digits, "_", "-" and "."; unique in the query.
        """
        if not isinstance(id, str) or not re.fullmatch(r"[A-Za-z0-9_.-]+", id):
            raise PlanError(f"named({id!r}): an id has letters, digits, '_', '-' and '.', and at least one of them.")
        return StreamFrame(replace(self._operator(".named()"), id=id))

    def filter(self, mask: Any) -> StreamFrame:
        """Rows for which `mask` is true; null counts as false. The same as `frame[mask]`.

        Parameters
        ----------
        mask
            A condition on columns, a callable that is given the pandas frame of a batch, or a `pandas.col`.
        """
        predicate = self._resolve(mask, "filter")
        found = infer_column(predicate, self.schema, "mask", "filter")
        if not pa.types.is_boolean(found.type):
            raise PlanError(f"filter: {predicate} gives {found.type}, not true or false. Compare it with something.")
        return StreamFrame(Filter(child=self._node, predicate=predicate))

    def select(self, *columns: str | Sequence[str], **exprs: Any) -> StreamFrame:
        """Exactly these columns: those named, then those computed.

        Parameters
        ----------
        *columns
            Names, or lists of names.
        **exprs
            New name = expression, callable or plain value.
        """
        names = [n for c in columns for n in ([c] if isinstance(c, str) else c)]
        pairs: list[tuple[str, Expr]] = [(name, Named(name)) for name in names]
        pairs += [(name, self._resolve(value, "select")) for name, value in exprs.items()]
        return self._project(pairs, "select")

    def assign(self, **exprs: Any) -> StreamFrame:
        """All columns, with these added or replaced; later ones see earlier ones, as in pandas.

        Parameters
        ----------
        **exprs
            Name = expression, plain value, or a callable that is given the pandas frame of a batch. A callable is
            called once now, with two made-up rows, to learn its type.

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
        return StreamFrame(node)

    def rename(self, columns: Mapping[str, str]) -> StreamFrame:
        """Columns under new names; event time follows."""
        self._require("rename", list(columns))
        return self._project([(columns.get(n, n), Named(n)) for n in self.schema.names], "rename")

    def drop(self, columns: str | Sequence[str]) -> StreamFrame:
        """All columns but these; dropping the event time unsets it."""
        gone = [columns] if isinstance(columns, str) else list(columns)
        self._require("drop", gone)
        return self._project([(n, Named(n)) for n in self.schema.names if n not in gone], "drop")

    def explode(self, column: str) -> StreamFrame:
        """One row per element of a list column; an empty or null list gives one row with null, as in pandas."""
        return StreamFrame(Explode(child=self._node, column=column))

    def map_batches(
        self, fn: Callable[..., Any], schema: Schema | None = None, batch_format: BatchFormat = "pandas"
    ) -> StreamFrame:
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
        return StreamFrame(MapBatches(child=self._node, fn=fn, schema=out, batch_format=batch_format, name=name))

    def pipe(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """`fn(self, *args, **kwargs)`, to write steps of one's own in a chain."""
        return fn(self, *args, **kwargs)

    def groupby(self, by: str | Sequence[str]) -> GroupBy[StreamFrame]:
        """Rows by key, for `.window(...).agg(...)`; null keys are a group of their own."""
        keys = [by] if isinstance(by, str) else list(by)
        if not keys:
            raise PlanError("groupby: name at least one key column.")
        self._require("groupby", keys)
        return GroupBy(self._node, tuple(keys), StreamFrame)

    def window(self, spec: Tumbling | Sliding, on: str | None = None) -> WindowedGroups[StreamFrame]:
        """All rows of each window as one group, for `.agg(...)`; see `GroupBy.window`."""
        return GroupBy(self._node, (), StreamFrame).window(spec, on)

    def to_kafka(
        self,
        topic: str,
        *,
        bootstrap_servers: str | None = None,
        key: str | None = None,
        delivery: Delivery = "exactly_once",
        config: Mapping[str, str | int | float | bool] | None = None,
        name: str | None = None,
    ) -> StreamSink:
        """Rows as JSON records of all columns; the record time is the event time.

        Parameters
        ----------
        bootstrap_servers
            The only Kafka cluster that the query reads, by default.
        key
            Column whose text is the key of the record, which decides its partition.
        delivery
            "exactly_once": one transaction per batch and lane. "at_least_once": repeats are possible after a failure.
        config
            Settings of librdkafka's producer.
        name
            Of the sink within the query; the topic by default.
        """
        return kafka_sink(
            self._node,
            topic,
            bootstrap_servers=bootstrap_servers,
            key=key,
            delivery=delivery,
            config=config,
            name=name,
        )

    def to_memory(self, name: str = "memory") -> StreamSink:
        """Rows as a table in this process: `query.table(name)`. It starts empty after a restart."""
        return memory_sink(self._node, name)

    def to_null(self, name: str = "null") -> StreamSink:
        """Rows are counted and dropped."""
        return null_sink(self._node, name)

    def compute(self) -> pd.DataFrame:
        """Run over finite input to its end, in this process, and return all rows.

        Returns
        -------
        pandas.DataFrame
            Sorted by event time, then keys, then all columns; dtypes as `dtypes`.

        Raises
        ------
        PlanError
            A source never ends.
        UserFunctionError
            A function of the plan failed.
        """
        return results_of((self._node,))[0]

    def explain(self) -> str:
        """The compiled plan as text: stages, exchanges, windows and guarantees. Print it."""
        return explain_node(self._node)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            self._require("frame[...]", [key])
            return Column(Named(key), (Binding(self._node, key),))
        if isinstance(key, list | tuple | pd.Index) and all(isinstance(name, str) for name in key):
            return self.select(list(key))
        if isinstance(key, slice):
            raise absent("iloc", self.schema.names)
        return self.filter(key)

    def __getattr__(self, name: str) -> Column:
        if name != "_node" and name in self._node.schema.names:
            return self[name]  # type: ignore[no-any-return]
        raise absent(name, [] if name == "_node" else self._node.schema.names)

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise PlanError(
            f"a stream is immutable: write frame = frame.assign({key}=...) instead of frame[{key!r}] = ...."
        )

    def __len__(self) -> int:
        raise PlanError("a stream has no length: count rows of a window, as in groupby(keys).window(spec).size().")

    def __iter__(self) -> NoReturn:
        raise PlanError("a stream cannot be looped over. Use frame.columns for names, map_batches(fn) for rows.")

    def __bool__(self) -> bool:
        raise PlanError("a stream is neither true nor false.")

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._node.schema.names})

    def __repr__(self) -> str:
        time = f", event time {self.event_time}" if self.event_time else ""
        return f"<StreamFrame [{', '.join(f'{n}: {d}' for n, d in self.dtypes.items())}]{time}>"

    def _resolve(self, value: Any, where: str) -> Expr:
        return resolve(value, self._node, where)

    def _require(self, where: str, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.schema.names:
                raise PlanError.unknown_column(where, name, self.schema.names)

    def _project(self, pairs: Sequence[tuple[str, Expr]], where: str) -> StreamFrame:
        if not pairs:
            raise PlanError(f"{where}: no column would be left.")
        fields = [infer_column(expr, self.schema, name, where) for name, expr in pairs]
        kept = [name for name, expr in pairs if self.event_time is not None and expr == Named(self.event_time)]
        time = self.event_time if self.event_time in kept else next(iter(kept), None)
        exprs = tuple(expr for _, expr in pairs)
        return StreamFrame(Project(child=self._node, exprs=exprs, schema=pa.schema(fields), event_time=time))

    def _operator(self, what: str) -> WindowAggregate:
        if not isinstance(self._node, WindowAggregate):
            raise PlanError(f"{what} belongs to the frame that .agg() or .size() returns: take it before other steps.")
        return self._node
