"""The plan: frozen nodes whose invariants hold from construction, so that a wrong plan cannot exist.

A node knows its children, its output `schema` (Arrow; `nullable=False` means never null) and the name of its
`event_time` column or None. Event time is `timestamp[us]` without zone, meaning UTC.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from microstream.errors import PlanError
from microstream.plan.aggregates import Aggregate, aggregate_field
from microstream.plan.columns import element_field, require_column, require_distinct, types_of
from microstream.plan.expr import Expr
from microstream.plan.source import TIME, Source, kept_time
from microstream.plan.specs import OutputMode, SinkSpec
from microstream.plan.windows import Sliding, Tumbling

__all__ = [
    "LATE_COLUMNS",
    "REVISION",
    "TIME",
    "Aggregate",
    "Assign",
    "BadRecords",
    "Concat",
    "Explode",
    "Filter",
    "Late",
    "MapBatches",
    "MapRows",
    "Node",
    "Project",
    "RunningAggregate",
    "Sink",
    "Sliding",
    "Source",
    "Stateful",
    "Tumbling",
    "Watermark",
    "WindowAggregate",
    "event_time_shift_us",
    "last_operators",
]

WINDOW_COLUMNS = ("window_start", "window_end")
REVISION = "_revision"
"""Column of rows that are given again: 0, then how often since (semantics 13). Also of the state behind them."""
LATE_COLUMNS = (
    pa.field("_operator", pa.large_string(), nullable=False),
    pa.field("_watermark", TIME, nullable=False),
    pa.field("_window_end", TIME),
)
"""What `.late` adds to the dropped row (semantics 11)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Rows of `child` for which `predicate` is true (null counts as false)."""

    child: Node
    predicate: Expr

    @property
    def schema(self) -> pa.Schema:
        return self.child.schema

    @property
    def event_time(self) -> str | None:
        return self.child.event_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """Exactly the columns `schema`, column i computed by `exprs[i]`; `event_time` is the new name, if it survives."""

    child: Node
    exprs: tuple[Expr, ...]
    schema: pa.Schema
    event_time: str | None

    def __post_init__(self) -> None:
        require_distinct("select", self.schema.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assign:
    """`child` with column `name` added or replaced by `expr` of type `dtype`."""

    child: Node
    name: str
    expr: Expr
    dtype: pa.DataType
    nullable: bool = True

    @property
    def schema(self) -> pa.Schema:
        new = pa.field(self.name, self.dtype, nullable=self.nullable)
        at = self.child.schema.get_field_index(self.name)
        return self.child.schema.append(new) if at < 0 else self.child.schema.set(at, new)

    @property
    def event_time(self) -> str | None:
        return None if self.name == self.child.event_time else self.child.event_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Explode:
    """One row per element of the list columns `columns`, side by side; an empty or null list counts as one null.

    As in pandas, the lists of a row must have one length.
    """

    child: Node
    columns: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.columns:
            raise PlanError("explode: name at least one list column.")
        for name in self.columns:
            require_column("explode", name, self.child.schema)
            if self.columns.count(name) > 1:
                raise PlanError(f"explode: column {name!r} is named twice.")
            kind = self.child.schema.field(name).type
            if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
                raise PlanError(f"explode({name!r}): the column has type {kind}, not a list.")

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([element_field(field) if field.name in self.columns else field for field in self.child.schema])

    @property
    def event_time(self) -> str | None:
        return self.child.event_time


@dataclass(frozen=True, slots=True, kw_only=True)
class MapBatches:
    """`fn` of the lane's rows of one batch, as a pandas frame or an Arrow table; never called without rows.

    A class is instantiated once per worker. Event time survives if `schema` still names the column.
    """

    child: Node
    fn: Callable[..., Any]
    schema: pa.Schema
    batch_format: Literal["pandas", "arrow"] = "pandas"
    name: str = "map_batches"

    @property
    def event_time(self) -> str | None:
        return kept_time(self.child.event_time, self.schema)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapRows:
    """`fn` of each row as a dict: a dict for a row, a list of dicts for several rows, None for none.

    A class is instantiated once per worker. Event time survives if `schema` still names the column.
    """

    child: Node
    fn: Callable[..., Any]
    schema: pa.Schema
    name: str = "map_rows"

    @property
    def event_time(self) -> str | None:
        return kept_time(self.child.event_time, self.schema)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """Rows of `child`; `column` is event time, out of order by up to `delay_us` within a partition of the source.

    The ledger of every source above `child` is kept by it: what its rows say, and not what was read, advances the
    watermark (semantics 32). Its column is never null.
    """

    child: Node
    column: str
    delay_us: int

    def __post_init__(self) -> None:
        require_column("with_watermark", self.column, self.child.schema)
        kind = self.child.schema.field(self.column).type
        if kind != TIME:
            raise PlanError(
                f"with_watermark: {self.column!r} has type {kind}, not a time. Convert it first, as in "
                f"assign({self.column}=ms.col({self.column!r}).astype('datetime64'))."
            )

    @property
    def schema(self) -> pa.Schema:
        at = self.child.schema.get_field_index(self.column)
        return self.child.schema.set(at, self.child.schema.field(at).with_nullable(False))

    @property
    def event_time(self) -> str | None:
        return self.column


@dataclass(frozen=True, slots=True, kw_only=True)
class Concat:
    """Rows of all children: same column names and types; event times must agree by name (semantics 32)."""

    children: tuple[Node, ...]
    schema: pa.Schema = field(init=False)

    def __post_init__(self) -> None:
        first = self.children[0]
        for other in self.children[1:]:
            here, there = types_of(first.schema), types_of(other.schema)
            if here != there:
                raise PlanError(
                    f"concat: frames must have the same columns and types. First: {here}. Other: {there}. "
                    "Use select() or assign() on one of them."
                )
            if first.event_time != other.event_time:
                raise PlanError(
                    f"concat: event time is {first.event_time!r} in one frame and {other.event_time!r} in another. "
                    "Name the column alike before concat."
                )
            if first.event_time is not None and event_time_shift_us(first) != event_time_shift_us(other):
                raise PlanError(
                    f"concat: {first.event_time!r} is the end of closed windows in one frame and a plain time in "
                    "another. Use frames of one kind, or drop the column from both."
                )
        fields: list[pa.Field[Any]] = []
        for column in first.schema:
            nullable = any(child.schema.field(column.name).nullable for child in self.children)
            fields.append(pa.field(column.name, column.type, nullable=nullable))
        object.__setattr__(self, "schema", pa.schema(fields))

    @property
    def event_time(self) -> str | None:
        return self.children[0].event_time


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowAggregate:
    """Per key and window one row: keys, window_start, window_end, aggregates.

    `on` is the event-time column of `child`. `id` is the name given by `.named()`, or "" for "kind-ordinal". `mode`
    says when it is emitted: once, when the window closes, or whenever it changed, or with all others in every batch.
    `lateness_us` is how long rows still count after that; what they change is emitted again.
    """

    child: Node
    keys: tuple[str, ...]
    window: Tumbling | Sliding
    on: str
    aggregates: tuple[Aggregate, ...]
    id: str = ""
    mode: OutputMode = "append"
    lateness_us: int = 0
    schema: pa.Schema = field(init=False)

    def __post_init__(self) -> None:
        here = self.child.schema
        _check_groups("window", self.child, self.keys)
        require_column("window", self.on, here)
        if self.child.event_time != self.on:
            raise PlanError(
                f"window(on={self.on!r}): event time of this frame is {self.child.event_time!r}. Set event_time= "
                "at the source, and keep the column (assigning or dropping it unsets event time)."
            )
        fields = [here.field(key) for key in self.keys]
        fields += [pa.field(name, TIME, nullable=False) for name in WINDOW_COLUMNS]
        fields += [aggregate_field(a, here) for a in self.aggregates]
        fields += [pa.field(REVISION, pa.int64(), nullable=False)] if self.revises else []
        require_distinct("agg", [column.name for column in fields])
        object.__setattr__(self, "schema", pa.schema(fields))

    @property
    def revises(self) -> bool:
        """Whether a window that was emitted may be emitted again, with a number."""
        return self.mode == "append" and self.lateness_us > 0

    @property
    def event_time(self) -> str | None:
        """`window_end`; the time itself is `window_end` - 1 us (semantics 32)."""
        return "window_end"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningAggregate:
    """Per key one row over all rows until now: keys, aggregates; emitted when it changed, or all in every batch.

    Its rows are never final, so it has no event time, no late rows and no form that appends.
    """

    child: Node
    keys: tuple[str, ...]
    aggregates: tuple[Aggregate, ...]
    id: str = ""
    mode: OutputMode = "update"
    schema: pa.Schema = field(init=False)

    def __post_init__(self) -> None:
        here = self.child.schema
        _check_groups("agg", self.child, self.keys)
        require_distinct("agg", [*self.keys, *(a.name for a in self.aggregates)])
        fields = [here.field(key) for key in self.keys] + [aggregate_field(a, here) for a in self.aggregates]
        object.__setattr__(self, "schema", pa.schema(fields))

    @property
    def event_time(self) -> str | None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """Rows that `operator` dropped as late, with `_operator`, `_watermark` and `_window_end`."""

    operator: WindowAggregate

    @property
    def schema(self) -> pa.Schema:
        out = self.operator.child.schema
        for extra in LATE_COLUMNS:
            out = out.append(extra)
        return out

    @property
    def event_time(self) -> str | None:
        return self.operator.child.event_time


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRecords:
    """Records of `child` that cannot be decoded, as the source's own sink for them takes them."""

    child: Source
    schema: pa.Schema
    event_time: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """Rows of `child` leave the query through `spec` under `name`; `mode` None: as `plan/modes.py` finds."""

    child: Node
    name: str
    spec: SinkSpec
    mode: OutputMode | None = None

    def __post_init__(self) -> None:
        self.spec.check(self.child.schema)

    @property
    def schema(self) -> pa.Schema:
        return self.child.schema

    @property
    def is_whole(self) -> bool:
        """Whether it gets the whole result of every batch in one piece."""
        return self.mode == "complete" and self.spec.publication.whole


Node: TypeAlias = (
    Source
    | Filter
    | Project
    | Assign
    | Explode
    | MapBatches
    | MapRows
    | Watermark
    | Concat
    | WindowAggregate
    | RunningAggregate
    | Late
    | BadRecords
)

Stateful: TypeAlias = WindowAggregate | RunningAggregate
"""Nodes that remember something between two batches."""


def event_time_shift_us(node: Node) -> int:
    """What to add to the event-time column of `node` to get the event time: -1 where it is the end of a window.

    A row of a closed window has the event time `window_end` - 1 us, the last time inside the window (semantics 32).
    """
    match node:
        case WindowAggregate():
            return -1
        case Source() | RunningAggregate():
            return 0
        case Concat(children=children):
            return event_time_shift_us(children[0])
        case Late(operator=operator):
            return event_time_shift_us(operator.child)
        case _:
            return event_time_shift_us(node.child)


def last_operators(node: Node) -> tuple[Stateful, ...]:
    """The stateful operators whose results reach `node` with no other in between; late rows are no results."""
    match node:
        case WindowAggregate() | RunningAggregate():
            return (node,)
        case Source() | BadRecords():
            return ()
        case Concat(children=children):
            return tuple(operator for child in children for operator in last_operators(child))
        case Late(operator=operator):
            return last_operators(operator.child)
        case _:
            return last_operators(node.child)


def _reads_late(node: Node) -> bool:
    """Whether late rows reach `node` without a stateful operator in between."""
    match node:
        case Late():
            return True
        case Source() | WindowAggregate() | RunningAggregate():
            return False
        case Concat(children=children):
            return any(map(_reads_late, children))
        case _:
            return _reads_late(node.child)


def _check_groups(where: str, child: Node, keys: tuple[str, ...]) -> None:
    """Raise PlanError unless rows of `child` can be aggregated by `keys`."""
    for key in keys:
        require_column("groupby", key, child.schema)
        if pa.types.is_nested(child.schema.field(key).type):
            raise PlanError(f"groupby: {key!r} has type {child.schema.field(key).type}; keys must be plain values.")
    if _reads_late(child):
        raise PlanError(f"{where}: rows of .late cannot feed a stateful operator. Send them to a sink.")
    for operator in last_operators(child):
        if isinstance(operator, RunningAggregate):
            raise PlanError(
                f"{where}: this frame comes from an aggregate without a window, whose rows change from batch to batch "
                "and are never final, so no other aggregate can take them. Give the first one a window, or aggregate "
                "the rows themselves."
            )
        if operator.lateness_us:
            raise PlanError(
                f"{where}: this frame comes from windows with allowed_lateness=, whose rows may come again, so no "
                "other aggregate can take them. Give the source a longer watermark= instead."
            )
