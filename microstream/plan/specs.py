"""What a plan knows of a source or sink: enough to compare, print and check it; opening it is the runtime's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import pyarrow as pa

__all__ = ["DeadLettering", "DeadLetters", "OutputMode", "Publication", "SinkSpec", "SourceSpec"]

OutputMode: TypeAlias = Literal["append", "update", "complete"]
"""What a batch emits (semantics 19): rows that are final, rows whose value changed, or the whole result."""


class SourceSpec(Protocol):
    """Where rows come from: a frozen, picklable value of a connector."""

    @property
    def kind(self) -> str:
        """Short name of the connector: "kafka", "memory"."""
        ...

    @property
    def target(self) -> str:
        """What is read, for people and for matching with a checkpoint: topics, a path."""
        ...

    @property
    def finite(self) -> bool:
        """Whether the source ends; then its last batch has the watermark +infinity."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """How the rows of a batch come to a sink.

    Attributes
    ----------
    together
        One task publishes the rows of all lanes of a batch, as lane 0; else every lane publishes its own.
    whole
        A whole result ("complete") is published together, also when nothing is left of it.
    every_us
        Rows are held in the outbox until so much batch time has passed since the first of them, and are then published
        together; 0: every batch by itself.
    lasting
        Whether the marker of the newest batch stays as long as what was published.
    """

    together: bool = False
    whole: bool = False
    every_us: int = 0
    lasting: bool = False


class SinkSpec(Protocol):
    """Where rows go: a frozen, picklable value of a connector."""

    @property
    def kind(self) -> str:
        """Short name of the connector: "kafka", "memory", "null"."""
        ...

    @property
    def target(self) -> str:
        """What is written, for people and for matching with a checkpoint: a topic, a path."""
        ...

    @property
    def format(self) -> str:
        """How rows are written: "json"; "" where the sink has no format."""
        ...

    @property
    def durable(self) -> bool:
        """Whether rows outlive the process; a durable sink needs a checkpoint."""
        ...

    @property
    def guarantee(self) -> str:
        """ "exactly once", or what is promised instead, as `explain()` prints it."""
        ...

    @property
    def publication(self) -> Publication:
        """Who publishes what a batch leaves, and when."""
        ...

    def check(self, schema: pa.Schema) -> None:
        """Raise PlanError where rows of `schema` cannot be written."""
        ...

    def check_mode(self, mode: OutputMode) -> None:
        """Raise PlanError where the rows that `mode` emits cannot be written."""
        ...


@runtime_checkable
class Keyed(Protocol):
    """A sink spec whose rows may replace the ones before them that have the same key."""

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The columns of the key; none: no row replaces another."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetters:
    """Where a source keeps the records that it cannot decode: rows of `schema`, timed by its column `event_time`."""

    sink: SinkSpec
    schema: pa.Schema
    event_time: str


@runtime_checkable
class DeadLettering(Protocol):
    """A source spec that may keep its bad records."""

    @property
    def dead_letters(self) -> DeadLetters | None:
        """None: it does not."""
        ...
