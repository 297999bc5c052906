"""Log lines that know their query, batch, lane and operator, as text for people or as JSON for machines.

Loggers are those of the standard library, below `microstream`. Which query a line belongs to is known by context, also
for lines of user functions and of other libraries, as long as they are written in the thread or task that works on it.
In a program that has its own logging, give a handler `PlainFormatter` or `JsonFormatter`; else `configure_logs` or the
environment variable `MICROSTREAM_LOG` (workers read it, too) makes a handler.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal

from microstream.errors import SettingError

__all__ = ["FIELDS", "JsonFormatter", "PlainFormatter", "configure_logs", "logs_of_environment", "note", "working_on"]

FIELDS = ("query", "batch", "lane", "operator", "sink")
"""What a line may be about; also accepted as `extra=` of a log call, which wins."""

VARIABLE = "MICROSTREAM_LOG"
LEVEL_VARIABLE = "MICROSTREAM_LOG_LEVEL"

NOTHING: Mapping[str, object] = MappingProxyType({})
_about: ContextVar[Mapping[str, object]] = ContextVar("microstream-log", default=NOTHING)


@contextmanager
def working_on(**about: object) -> Iterator[None]:
    """Lines that are written within are about this, and about what they were before."""
    token = _about.set({**_about.get(), **about})
    try:
        yield
    finally:
        _about.reset(token)


def note(**about: object) -> None:
    """From here to the end of the innermost `working_on`, lines are also about this."""
    _about.set({**_about.get(), **about})


def _fields(record: logging.LogRecord) -> dict[str, object]:
    known = {**_about.get(), **{name: getattr(record, name) for name in FIELDS if hasattr(record, name)}}
    return {name: known[name] for name in FIELDS if name in known}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class PlainFormatter(logging.Formatter):
    """One line: time in UTC, level, logger, what it is about, message; a traceback below.

    >>> line = logging.LogRecord("microstream.driver", logging.WARNING, "", 0, "worker %s is lost", ("a",), None)
    >>> with working_on(query="totals", batch=7):
    ...     PlainFormatter().format(line).split(" ", 1)[1]
    'WARNING microstream.driver [query=totals batch=7] worker a is lost'
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        about = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        where = f" [{about}]" if about else ""
        trouble = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{_time(record)} {record.levelname} {record.name}{where} {record.getMessage()}{trouble}"


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `time level logger message`, then `query batch lane operator sink` where known.

    `error` is the traceback, if there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The object, without line breaks."""
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


FORMATTERS: Mapping[str, type[logging.Formatter]] = {"plain": PlainFormatter, "json": JsonFormatter}


def configure_logs(format: Literal["plain", "json"] = "plain", level: str = "INFO") -> None:
    """Write what microstream logs to stderr; replaces what an earlier call set up, and leaves other loggers alone.

    Parameters
    ----------
    format
        "plain" or "json".
    level
        Least level that is written, such as "INFO" or "WARNING".

    Raises
    ------
    SettingError
        There is no such format or level.
    """
    if format not in FORMATTERS:
        raise SettingError(f"log format {format!r}: there are {', '.join(FORMATTERS)}.")
    if level.upper() not in logging.getLevelNamesMapping():
        raise SettingError(f"log level {level!r}: there are {', '.join(logging.getLevelNamesMapping())}.")
    ours = logging.getLogger("microstream")
    for before in [handler for handler in ours.handlers if isinstance(handler.formatter, tuple(FORMATTERS.values()))]:
        ours.removeHandler(before)
    handler = logging.StreamHandler()
    handler.setFormatter(FORMATTERS[format]())
    ours.addHandler(handler)
    ours.setLevel(level.upper())
    ours.propagate = False


def logs_of_environment() -> None:
    """`configure_logs` as `MICROSTREAM_LOG` and `MICROSTREAM_LOG_LEVEL` say; nothing without them."""
    if VARIABLE in os.environ:
        configure_logs(os.environ[VARIABLE], os.environ.get(LEVEL_VARIABLE, "INFO"))  # type: ignore[arg-type]
