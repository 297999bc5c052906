"""One bundle per worker and attempt: the lane task that finishes last writes it for all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from microstream.checkpoint.bundle import Bundle
from microstream.checkpoint.keys import data_key
from microstream.checkpoint.store import ObjectStore
from microstream.runtime.task import Attempt, Sealed, StageTask

__all__ = ["Part", "Sealer"]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Rows to store, made by `execution`; `name` is "run:OPERATOR" or "sink:NAME"."""

    execution: str
    name: str
    table: pa.Table


@dataclass(slots=True)
class _Open:
    parts: dict[tuple[int, int], list[Part]] = field(default_factory=dict)
    sealed: bool = False
    stored: tuple[tuple[Sealed, pa.Table], ...] = ()


class Sealer:
    """Collects parts and writes bundles. More objects than workers are a cost, never a fault."""

    def __init__(self, store: ObjectStore, new_id: Callable[[], str]) -> None:
        self._store, self._new_id = store, new_id
        self._open: dict[tuple[int, int], _Open] = {}
        self._lock = threading.Lock()

    def add(self, task: StageTask, parts: Sequence[Part]) -> tuple[tuple[Sealed, pa.Table], ...]:
        """Hand over the parts of a task that is done; what is stored of this attempt and worker, with the rows.

        Nothing is stored before the last of `task.seal_after` tasks. A task that runs again after that stores its own,
        and tells of the others' once more: the receipt that told of them first may not be the one that counts.
        """
        attempt = task.attempt
        with self._lock:
            for key in [k for k in self._open if _is_over(k, attempt)]:
                del self._open[key]
            bundle = self._open.setdefault((attempt.batch, attempt.number), _Open())
            if bundle.sealed:
                mine: Sequence[Part] = parts
            else:
                # Of a task that ran twice, either receipt may be the one that counts.
                bundle.parts.setdefault((task.level, task.lane), []).extend(parts)
                if len(bundle.parts) < task.seal_after:
                    return ()
                bundle.sealed = True
                mine = [part for of_task in bundle.parts.values() for part in of_task]
                bundle.parts.clear()
        written = self._write(attempt, mine)
        with self._lock:
            bundle.stored += written
            return bundle.stored

    def _write(self, attempt: Attempt, parts: Sequence[Part]) -> tuple[tuple[Sealed, pa.Table], ...]:
        if not parts:
            return ()
        bundle = Bundle()
        for part in parts:
            bundle.add(part.table)
        key = data_key(epoch=attempt.epoch, batch=attempt.batch, kind="d", id=self._new_id())
        data, segments = bundle.seal(key)
        self._store.put(key, data)
        return tuple(
            (Sealed(execution=part.execution, name=part.name, segment=segment), part.table)
            for part, segment in zip(parts, segments, strict=True)
        )


def _is_over(key: tuple[int, int], attempt: Attempt) -> bool:
    """Two batches may be in flight; an older attempt at the same batch was discarded."""
    batch, number = key
    return batch < attempt.batch - 1 or (batch == attempt.batch and number < attempt.number)
