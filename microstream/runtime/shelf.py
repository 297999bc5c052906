"""The worker's side of the exchange: what its lane tasks left for others, until the batch is over."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import pyarrow as pa

from microstream.runtime.engine import ExchangeLostError, Fetch
from microstream.runtime.task import Attempt

__all__ = ["Shelf"]

Place = tuple[int, int, int, int]
"""(batch, attempt, level, lane)"""


class Shelf:
    """Tables by attempt, level and lane, under the execution id of the task run that made them.

    A task that ran twice replaces its tables: whoever was told of the first run must not get rows of the second, which
    non-deterministic code may have routed differently.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._held: dict[Place, tuple[str, Mapping[str, Sequence[pa.Table]]]] = {}
        self._lock = threading.Lock()

    def put(
        self,
        attempt: Attempt,
        level: int,
        lane: int,
        execution: str,
        tables: Mapping[str, Sequence[pa.Table]],
    ) -> None:
        """Keep `tables[operator][target lane]`; what two batches ago was kept is not wanted any more."""
        with self._lock:
            for place in [p for p in self._held if _is_over(p, attempt)]:
                del self._held[place]
            self._held[attempt.batch, attempt.number, level, lane] = (execution, tables)

    def take(self, fetch: Fetch) -> pa.Table:
        """The element asked for; it stays, as a consumer may be run again.

        Raises
        ------
        ExchangeLostError
            It is not here, or it is of another run of that task.
        """
        held = self._held.get((fetch.batch, fetch.attempt, fetch.level, fetch.lane))
        if held is None or held[0] != fetch.execution:
            what = "is gone" if held is None else "is of another run of that task"
            raise ExchangeLostError(
                f"batch {fetch.batch} attempt {fetch.attempt}: output of level {fetch.level} lane {fetch.lane} on "
                f"{self._address} {what}"
            )
        return held[1][fetch.operator][fetch.target]


def _is_over(place: Place, attempt: Attempt) -> bool:
    """Two batches may be in flight; an older attempt at the same batch was discarded."""
    batch, number, _, _ = place
    return batch < attempt.batch - 1 or (batch == attempt.batch and number < attempt.number)
