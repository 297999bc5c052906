"""Everything microstream raises on purpose, named by what its reader does next.

A message says what happened, where (query, batch, topic-partition-offset) and what to do now. All errors
survive pickling, because most of them are raised on a Dask worker and read in a notebook.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Self

__all__ = [
    "AbsentError",
    "BadRecordError",
    "CheckpointError",
    "ConnectorError",
    "FencedError",
    "InternalError",
    "MicrostreamError",
    "OffsetExpiredError",
    "PlanError",
    "SettingError",
    "UnreachableError",
    "UserFunctionError",
    "did_you_mean",
    "packed",
    "unpacked",
]

MAX_MESSAGE_CHARS = 1_000
"""distributed replaces exceptions whose text is longer than 10,000 characters by a plain `Exception`."""


def _clip(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"


class MicrostreamError(Exception):
    """Base of all errors of microstream; `fields` are the facts of the message, for programs.

    Parameters
    ----------
    message
        What happened, where, and what to do; clipped to 1,000 characters.
    **fields
        Facts of the message; each becomes an attribute. Values must be picklable.
    """

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(_clip(message))
        self.fields: Mapping[str, Any] = fields

    def __getattr__(self, name: str) -> Any:
        fields = self.__dict__.get("fields", {})
        if name in fields:
            return fields[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def at(self, where: str) -> Self:
        """The same error, whose message begins with `where`, as in "query totals, batch 7"."""
        error = type(self)(f"{where}: {self}", **self.fields)
        error.__cause__ = self.__cause__
        return error.with_traceback(self.__traceback__)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self), dict(self.fields), _packed(self.__cause__), _said(self.__cause__))


def _packed(cause: BaseException | None) -> bytes:
    """`cause`, or nothing if it cannot travel: user code raises what it likes, and no error may be lost for that."""
    if cause is None:
        return b""
    import cloudpickle  # a command that only prints its help need not wait for it

    try:
        data: bytes = cloudpickle.dumps(cause)
    except Exception:  # noqa: BLE001 - whatever forbids it, `_said` is left
        return b""
    return data


def _said(cause: BaseException | None) -> str:
    return "" if cause is None else _clip(f"{type(cause).__name__}: {cause}")


def _rebuild(
    kind: type[MicrostreamError], message: str, fields: dict[str, Any], cause: bytes, said: str
) -> MicrostreamError:
    error = kind(message, **fields)
    error.__cause__ = _unpacked(cause, said) if said else None
    return error


def _unpacked(cause: bytes, said: str) -> BaseException:
    """The cause, or an exception with its text where its class cannot be rebuilt here."""
    if cause:
        import cloudpickle

        try:
            found = cloudpickle.loads(cause)
        except Exception:  # noqa: BLE001 - a constructor with other arguments, a module that is not here
            return RuntimeError(said)
        if isinstance(found, BaseException):
            return found
    return RuntimeError(said)


def did_you_mean(name: str, names: Iterable[str], where: str = "") -> str:
    """A sentence that offers the likeliest of `names` for a misspelt one; empty where none is like it.

    >>> did_you_mean("prise", ["price", "ts"])
    " Did you mean 'price'?"
    """
    close = get_close_matches(name, list(names), n=1)
    return f" Did you mean {close[0]!r}{where}?" if close else ""


def packed(error: MicrostreamError) -> bytes:
    """`error` for the wire, whatever its cause and its context are made of.

    Plain pickling is not enough beside distributed: it registers reducers for exceptions that go before `__reduce__`,
    take all causes and contexts along, and make a plain `Exception` of an error where one of them cannot be pickled.

    >>> unpacked(packed(PlanError("no such column", column="x"))).column
    'x'
    """
    return pickle.dumps(error.__reduce__()[1])


def unpacked(data: bytes) -> MicrostreamError:
    """The error that `packed` made bytes of."""
    return _rebuild(*pickle.loads(data))


class PlanError(MicrostreamError, ValueError):
    """The query cannot be built as written: fix the query."""

    @classmethod
    def unknown_column(cls, where: str, column: str, columns: Iterable[str]) -> PlanError:
        """`column` is not there; names the ones that are, and the likeliest one first."""
        names = list(columns)
        return cls(
            f"{where}: there is no column {column!r}.{did_you_mean(column, names)} Columns here: {', '.join(names)}.",
            column=column,
            columns=tuple(names),
        )


class AbsentError(PlanError, AttributeError):
    """A name of pandas, or of a later version, that is not here: use what the message says.

    An AttributeError too, so that `hasattr` and `getattr` work as always.
    """


class SettingError(MicrostreamError, ValueError):
    """A setting has a value that is not possible: fix the setting."""


class UserFunctionError(MicrostreamError):
    """A function of the query raised, or returned other columns than it declared: fix the function.

    `__cause__` is the exception of the function. Fields: operator, batch, lane, position (topic-partition-offset
    of the first row that fails, or the ranges of the batch when no single row does).
    """


class BadRecordError(MicrostreamError):
    """A record cannot be decoded, or its event time is impossible. Fields: partition, offset, reason, record."""


class ConnectorError(MicrostreamError):
    """A source or sink is not reachable, or refuses what is asked of it."""


class UnreachableError(ConnectorError):
    """A source, sink or worker does not answer now; the query waits (setting `source_wait`) before it fails."""


class OffsetExpiredError(ConnectorError):
    """The source no longer holds the offsets that this query must read next. Fields: partition, wanted, earliest."""

    @classmethod
    def of(cls, source: str, partition: str, wanted: int, earliest: int) -> OffsetExpiredError:
        """Records of a topic are gone: the same words, whether the driver or a worker finds it first."""
        return cls(
            f"source {source}: {partition} offset {wanted} must be read next, but retention removed everything before "
            f"{earliest}: {earliest - wanted} records are lost. Start with on_data_loss="
            '"skip" to go on without them, and raise retention.ms of the topic.',
            source=source,
            partition=partition,
            wanted=wanted,
            earliest=earliest,
        )


class CheckpointError(MicrostreamError):
    """The checkpoint cannot be used as it is. Field: problems (all of them at once)."""

    @classmethod
    def of(cls, where: str, problems: Iterable[str], advice: str) -> CheckpointError:
        """One error for all `problems` of the checkpoint `where`."""
        found = tuple(problems)
        return cls(f"{where}: {'; '.join(found)}. {advice}", problems=found, checkpoint=where)


class FencedError(MicrostreamError):
    """Another driver owns the checkpoint now: this one has stopped for good and published nothing more."""


class InternalError(MicrostreamError):
    """microstream broke a rule of its own: please report it with this message."""
