"""What a format implements: records to columns and back. A record is bytes; a table is columns of a schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["Decoded", "Decoder", "Encoded", "Encoder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """`table` holds the rows of the good records in order; `bad` the index of each other one and why.

    `record[k]` is the index of the record that row k comes from; None where each good record is one row.
    """

    table: pa.Table
    bad: tuple[tuple[int, str], ...]
    record: npt.NDArray[np.int64] | None = None


class Decoder(Protocol):
    """Reads records of one format; a record is good or bad whatever its neighbours are."""

    def decode(self, messages: Sequence[bytes], *, latest_us: int | None = None) -> Decoded:
        """Rows of `messages`; an event time after `latest_us` (microseconds since 1970) makes a message bad.

        Raises ConnectorError where something outside (a schema registry) does not answer.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """`values` are records (large_binary, null for a tombstone); record i ends before row `ends[i]`.

    `ends` None: one record per row.
    """

    values: pa.Array[Any]
    ends: npt.NDArray[np.int64] | None = None


class Encoder(Protocol):
    """Writes rows as records of one format. What cannot be written is refused when it is made, by the schema."""

    def encode(self, table: pa.Table) -> Encoded:
        """All rows, in order. Raises BadRecordError for a row that has no form in this format."""
        ...
