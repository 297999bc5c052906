"""One warning when rows come too late and nobody reads them, instead of a result that is smaller without a word."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["LateRows"]

log = logging.getLogger("microstream.late")


class LateRows:
    """Watches the progress of one query for rows that `operators` drop as late; warns once for each of them."""

    def __init__(self, operators: Iterable[str]) -> None:
        self._silent = set(operators)

    def note(self, progress: Mapping[str, Any]) -> None:
        """A batch was committed."""
        for operator in progress["stateOperators"] if self._silent else ():
            name, rows = operator["operatorId"], operator["numRowsDroppedByWatermark"]
            if rows and name in self._silent:
                self._silent.discard(name)
                log.warning(
                    "operator %s: %d rows of batch %d came after their window had closed and were dropped (the "
                    "watermark is %s). Send `frame.late` to a sink to keep such rows, or give the source a longer "
                    "watermark=. From here on they are only counted: numRowsDroppedByWatermark.",
                    name,
                    rows,
                    progress["batchId"],
                    operator["watermark"],
                    extra={"query": progress["name"], "batch": progress["batchId"], "operator": name},
                )
