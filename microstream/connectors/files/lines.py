"""Lines of a text file by offsets: a line belongs to the offset in whose bytes it starts (as in Hadoop's splits).

So any cut of a file gives the same lines, each once, whatever their length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fsspec.utils
import numpy as np
import numpy.typing as npt
from fsspec.compression import compr

from microstream.connectors.files.journal import UNIT_BYTES

__all__ = ["Lines", "Text", "is_compressed", "line_number", "lines_between", "open_text"]

AHEAD_BYTES = 65_536
"""How far beyond its end a range is read at first, for the rest of its last line."""
PIECE_BYTES = 1 << 24
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text of `size` bytes; `read(start, end)` gives some of them."""

    size: int
    read: Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """`texts` without their ends, and the byte of the file at which each starts; `size_bytes` of all of them."""

    texts: list[bytes]
    starts: npt.NDArray[np.int64]
    size_bytes: int


NOTHING = Lines(texts=[], starts=np.empty(0, np.int64), size_bytes=0)


def is_compressed(path: str) -> bool:
    """Whether its name says so (.gz, .bz2, .xz, .zst): such a file is read as a whole, with its first offset.

    >>> is_compressed("a.json.gz"), is_compressed("a.json")
    (True, False)
    """
    return fsspec.utils.infer_compression(path) in set(compr) - {None}


def open_text(files: Any, path: str, size: int) -> Text:
    """The text in file `path` of `size` bytes; a compressed one is read now."""
    if not is_compressed(path):
        return Text(size=size, read=lambda start, end: bytes(files.cat_file(path, start=start, end=end)))
    with files.open(path, "rb", compression="infer") as file:
        whole: bytes = file.read()
    return Text(size=len(whole), read=lambda start, end: whole[start:end])


def lines_between(text: Text, low: int, high: int) -> Lines:
    """The lines that start in units `[low, high)` of `text`; the newline at its very end begins no other line.

    >>> text = Text(size=300, read=lambda start, end: (b"a\\n" * 150)[start:end])
    >>> len(lines_between(text, 0, 1).texts), len(lines_between(text, 1, 2).texts)
    (100, 50)
    """
    begin, stop = low * UNIT_BYTES, min(high * UNIT_BYTES, text.size)
    if begin >= stop:
        return NOTHING
    # One byte more in front tells whether a line starts exactly here.
    offset = max(0, begin - 1)
    data, last = _until_newline(text, offset, stop)
    first = data.find(b"\n") + 1 if begin else len(BOM) if data.startswith(BOM) else 0
    end = len(data) if last < 0 else last
    if (begin and not first) or offset + first >= stop:
        return NOTHING
    texts = data[first:end].split(b"\n")
    lengths = np.fromiter(map(len, texts), np.int64, len(texts)) + 1
    starts = offset + first + np.cumsum(lengths) - lengths
    if data.find(b"\r", first, end) >= 0:
        texts = [line.removesuffix(b"\r") for line in texts]
    return Lines(texts=texts, starts=starts, size_bytes=end - first)


def _until_newline(text: Text, offset: int, stop: int) -> tuple[bytes, int]:
    """Bytes from `offset` to the end of the line that holds byte `stop - 1`, and where in them it ends (or -1)."""
    ahead = AHEAD_BYTES
    data = text.read(offset, min(stop + ahead, text.size))
    searched = stop - 1 - offset
    while (last := data.find(b"\n", searched)) < 0 and offset + len(data) < text.size:
        searched, ahead = len(data), ahead * 4
        more = text.read(offset + len(data), min(stop + ahead, text.size))
        if not more:
            break
        data += more
    return data, last


def line_number(text: Text, start: int) -> int:
    """The number, from 1, of the line that starts at byte `start`; reads everything before it."""
    number = 1
    for at in range(0, start, PIECE_BYTES):
        number += text.read(at, min(at + PIECE_BYTES, start)).count(b"\n")
    return number
