"""A worker's view of files: offsets to pieces of files, pieces to rows."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from microstream.connectors.files.decode import Format, LineDecoder, column_names, decode_columns, line_decoder
from microstream.connectors.files.journal import UNIT_BYTES, Journal, Listed
from microstream.connectors.files.lines import Text, is_compressed, line_number, lines_between, open_text
from microstream.connectors.files.listing import asking, filesystem_of, version_of
from microstream.connectors.files.parquet import ParquetRows
from microstream.connectors.files.probe import changed_file
from microstream.connectors.protocol import Range, RangeCount, Read
from microstream.errors import BadRecordError, ConnectorError, OffsetExpiredError, did_you_mean
from microstream.formats.json import Decoded

__all__ = ["FileReader", "FileRules"]

log = logging.getLogger("microstream.files")

SHOWN_BYTES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRules:
    """How files are read: `format`, and what to do about bad lines and files that are gone or changed."""

    format: Format
    on_bad_record: Literal["fail", "drop"]
    on_data_loss: Literal["fail", "skip"]
    storage_options: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """What a piece of a file gave: rows with their offsets in the partition."""

    table: pa.Table
    offsets: npt.NDArray[np.int64]
    bad: int = 0
    blank: int = 0
    size_bytes: int = 0


class FileReader:
    """See `microstream.connectors.protocol.Reader`; for one lane, used by one thread at a time."""

    def __init__(
        self,
        paths: Sequence[str],
        rules: FileRules,
        journal: Journal,
        *,
        name: str,
        schema: pa.Schema,
        event_time: str | None,
        max_ahead_us: int,
    ) -> None:
        self._files = filesystem_of(paths, rules.storage_options)
        self._rules, self._journal, self._name = rules, journal, name
        self._schema, self._event_time, self._max_ahead_us = schema, event_time, max_ahead_us
        self._told: set[str] = set()
        self._parquet = ParquetRows(self._files, schema.names)
        self._lines = None if rules.format == "parquet" else line_decoder(rules.format, schema, event_time)

    def read(self, ranges: Sequence[Range], *, batch_time_us: int) -> Read:
        """All rows of `ranges`. Raises BadRecordError, OffsetExpiredError, ConnectorError."""
        latest_us = batch_time_us + self._max_ahead_us
        tables, offsets = [self._schema.empty_table()], [np.empty(0, np.int64)]
        counts = []
        for wanted in ranges:
            pieces = self._pieces(wanted, latest_us)
            tables += [piece.table for piece in pieces]
            offsets += [piece.offsets for piece in pieces]
            counts.append(_counted(wanted, pieces))
        return Read(table=pa.concat_tables(tables), offsets=np.concatenate(offsets), counts=tuple(counts))

    def close(self) -> None:
        """Nothing to let go of."""

    def _pieces(self, wanted: Range, latest_us: int) -> list[_Piece]:
        listed = self._journal.files(wanted.partition, wanted.start, wanted.end)
        pieces = []
        for at, file in enumerate(listed):
            low, high = max(0, wanted.start - file.first), min(file.count, wanted.end - file.first)
            try:
                with asking(file.path):
                    self._require_unchanged(file)
                    piece = self._piece(file, low, high, latest_us)
            except FileNotFoundError:
                self._accept_loss(file, low, listed[at + 1 :], wanted)
            except _ChangedError:
                if self._rules.on_data_loss == "fail":
                    raise changed_file(file.path) from None
                log.warning("%s was changed after it was found: what was not read of it is skipped", file.path)
            else:
                pieces.append(piece)
        return pieces

    def _require_unchanged(self, file: Listed) -> None:
        if not self._is_as_listed(file):
            raise _ChangedError(file.path)

    def _is_as_listed(self, file: Listed) -> bool:
        info = self._files.info(file.path)
        return (int(info.get("size") or 0), version_of(info)) == (file.size, file.version)

    def _accept_loss(self, file: Listed, low: int, later: Sequence[Listed], wanted: Range) -> None:
        if self._rules.on_data_loss == "skip":
            log.warning("%s is gone: offsets %d to %d of %s are skipped", file.path, file.first, file.end - 1, wanted)
            return
        there = next((one.first for one in later if self._files.exists(one.path)), wanted.end)
        raise OffsetExpiredError(
            f"source {self._name!r}, {wanted.partition}: {file.path} must be read next (offset {file.first + low}) and "
            "is gone. Put it back, or go on without it with on_data_loss='skip'; remove files only after the query has "
            "read them.",
            source=wanted.source,
            partition=wanted.partition,
            wanted=file.first + low,
            earliest=there,
        )

    def _piece(self, file: Listed, low: int, high: int, latest_us: int) -> _Piece:
        if self._lines is None:
            return self._rows(file, low, high, latest_us)
        return self._text(self._lines, file, low, high, latest_us)

    def _rows(self, file: Listed, low: int, high: int, latest_us: int) -> _Piece:
        try:
            read = self._parquet.between(file, low, high)
        except pa.ArrowInvalid as problem:
            raise ConnectorError(
                f"{file.path} is no Parquet file, or is damaged: {problem}. Take it away, or hide it by a name that "
                "begins with _, and go on with on_data_loss='skip'.",
                path=file.path,
            ) from problem
        self._tell_lacking(file.path, read.columns)
        rows, offsets = len(read.numbers), file.first + read.units
        decoded = decode_columns(read.table, rows, self._schema, self._event_time, file.path, latest_us=latest_us)
        if decoded.bad:
            at, reason = decoded.bad[0]
            record = str(read.table.slice(at, 1).to_pylist()).encode()
            self._judge(file, int(offsets[at]), f"row {read.numbers[at]}", reason, record, len(decoded.bad))
        return _Piece(
            table=decoded.table,
            offsets=_without(offsets, decoded),
            bad=len(decoded.bad),
            size_bytes=read.table.nbytes,
        )

    def _text(self, decode: LineDecoder, file: Listed, low: int, high: int, latest_us: int) -> _Piece:
        whole = is_compressed(file.path)
        if whole and low > 0:
            return _Piece(table=self._schema.empty_table(), offsets=np.empty(0, np.int64))
        text = open_text(self._files, file.path, file.size)
        found = lines_between(text, 0, -(-text.size // UNIT_BYTES)) if whole else lines_between(text, low, high)
        texts, starts, header = found.texts, found.starts, b""
        if self._rules.format == "csv":
            header = self._header(text)
            if low == 0:
                texts, starts = texts[1:], starts[1:]
        filled = [at for at, line in enumerate(texts) if line.strip()]
        blank = len(texts) - len(filled)
        if blank:
            texts, starts = [texts[at] for at in filled], starts[filled]
        if header and texts:
            self._tell_lacking(file.path, column_names(header))
        decoded = decode(texts, header, latest_us=latest_us)
        offsets = file.first + (np.zeros(len(starts), np.int64) if whole else starts // UNIT_BYTES)
        if decoded.bad:
            at, reason = decoded.bad[0]
            where = f"line {line_number(text, int(starts[at]))}"
            self._judge(file, int(offsets[at]), where, reason, texts[at], len(decoded.bad))
        return _Piece(
            table=decoded.table,
            offsets=_without(offsets, decoded),
            bad=len(decoded.bad),
            blank=blank,
            size_bytes=found.size_bytes,
        )

    def _tell_lacking(self, path: str, columns: Sequence[str]) -> None:
        """Warn, once per column, of one that is null in all rows because the file does not have it."""
        for name in self._schema.names:
            if name in columns or name in self._told:
                continue
            self._told.add(name)
            hint = did_you_mean(name, columns, " in schema=")
            log.warning("%s has no column %r: it is null in all its rows, as in other such files.%s", path, name, hint)

    def _header(self, text: Text) -> bytes:
        first = lines_between(text, 0, 1).texts
        return first[0] if first else b""

    def _judge(self, file: Listed, offset: int, where: str, reason: str, record: bytes, count: int) -> None:
        """Of the `count` bad records of a piece, the first."""
        shown = repr(record[:SHOWN_BYTES])
        if self._rules.on_bad_record == "drop":
            log.warning("%s: %d dropped, the first is %s: %s. Record: %s", file.path, count, where, reason, shown)
            return
        raise BadRecordError(
            f"source {self._name!r}, {file.path} {where}: {reason}. Record: {shown}. Pass all such records with "
            "on_bad_record='drop', correct schema= if they are as they should be, or start a new checkpoint with a "
            "mended file.",
            partition=file.partition,
            offset=offset,
            reason=reason,
            record=record,
            path=file.path,
        )


class _ChangedError(ConnectorError):
    """A file is not the one that was found."""


def _without(offsets: npt.NDArray[np.int64], decoded: Decoded) -> npt.NDArray[np.int64]:
    return np.delete(offsets, [at for at, _ in decoded.bad])


def _counted(wanted: Range, pieces: Sequence[_Piece]) -> RangeCount:
    return RangeCount(
        partition=wanted.partition,
        start=wanted.start,
        end=wanted.end,
        rows=sum(piece.table.num_rows for piece in pieces),
        bad=sum(piece.bad for piece in pieces),
        tombstones=sum(piece.blank for piece in pieces),
        bytes=sum(piece.size_bytes for piece in pieces),
    )
