"""`.str.split` by Arrow kernels, where they agree with pandas: the step of text queries that runs on every byte.

pandas makes a Python list per row. `split` answers None where it must do that: a regular expression, or `n=`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microstream.plan.kernels import Vector

__all__ = ["split"]

DTYPE = "list<item: large_string>[pyarrow]"
_NO_PARTS = pa.scalar([], pa.list_(pa.large_string()))


def split(args: Sequence[Any]) -> Vector | None:
    """The parts of each text of `args[0]`, between whitespace or between `args[1]`, which is one character.

    >>> split([Vector(pa.array([" a  b ", "", None], pa.large_string()), "str")]).array.to_pylist()
    [['a', 'b'], [], None]
    """
    texts, *rest = args
    if not isinstance(texts, Vector) or texts.dtype != "str" or len(rest) > 1:
        return None
    pattern = rest[0] if rest else None
    if pattern is None:
        return Vector(_between_whitespace(texts.array), DTYPE)
    # pandas takes a longer text for a regular expression.
    if not isinstance(pattern, str) or len(pattern) != 1:
        return None
    return Vector(pc.split_pattern(texts.array, pattern), DTYPE)


def _between_whitespace(texts: Any) -> Any:
    """As `str.split()`: no part is empty, so whitespace at the ends must go before."""
    if _is_plain(texts):
        trimmed, parts = pc.ascii_trim_whitespace(texts), pc.ascii_split_whitespace
    else:
        trimmed, parts = pc.utf8_trim_whitespace(texts), pc.utf8_split_whitespace
    found, empty = parts(trimmed), pc.equal(trimmed, pa.scalar("", texts.type))
    return pc.if_else(empty, _NO_PARTS, found) if pc.any(empty).as_py() else found


def _is_plain(texts: Any) -> bool:
    """Whether the kernels for ASCII, twice as fast, do the same: Python's whitespace has four more separators."""
    return all(map(_is_plain_chunk, texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]))


def _is_plain_chunk(texts: Any) -> bool:
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return True
    first, end = np.frombuffer(offsets, np.int64)[[texts.offset, texts.offset + len(texts)]]
    written = np.frombuffer(data, np.uint8)[first:end]
    if not len(written) or (written.max() < 0x80 and written.min() >= 0x20):
        return True
    return bool(written.max() < 0x80 and not (written - np.uint8(0x1C) < 4).any())
