"""Every number a user may turn. `dask.config`, section `microstream`, sets the defaults of a process; arguments of
`ms.start` win over it.

>>> Settings().max_records
2000000
>>> Settings.of({"max_records": 0})
Traceback (most recent call last):
    ...
microstream.errors.SettingError: microstream.max_records=0: must be at least 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from microstream.clock import duration_us
from microstream.errors import PlanError, SettingError

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Numbers of one query. Times are in microseconds here and durations ("10s") in `dask.config`, without `_us`.

    Attributes
    ----------
    max_records
        Records of one batch, over all partitions; the upper bound of the adaptive batch size.
    max_bytes
        Bytes of one batch as they lie in the source.
    max_span_us
        Event time that a backlog may advance in one batch.
    batch_target_us
        How long a batch of a backlog should take with a trigger shorter than this.
    call_below_us
        With a trigger shorter than this, the workers of a local cluster are called by the driver instead of getting
        tasks from Dask's scheduler: half the CPU time of a small batch and less latency, but the task stream of the
        Dask dashboard does not show them. 0: always tasks, as on a cluster that the user brings.
    poll_us
        How often sources are asked for news while nothing arrives.
    source_wait_us
        How long an unreachable source or sink is waited for before the query fails.
    store_wait_us
        How long an unreachable checkpoint store is waited for before the query fails.
    worker_wait_us
        How long to wait for a first or a replacement worker before the query fails.
    attempts
        Tries of one batch that fail for reasons that may pass (not counting lost workers).
    pending_batches
        Batches of one sink that may wait for publication before reading stops.
    pending_bytes
        Bytes of one sink that may wait for publication before reading stops.
    manifests
        Newest manifests that are kept.
    retain_us
        How long one manifest per hour is kept.
    gc_every
        Manifests between two garbage collections.
    heartbeat_us
        A driver without a commit for so long writes a `confirm` manifest, so that others see that it lives.
    takeover_watch_us
        How long the head of a checkpoint owned on another host is watched before it is taken over.
    marker_retention_us
        `offsets.retention.minutes` of the brokers: a pending batch older than that cannot be told from a published one.
    workers
        Processes of the local cluster; 0: one per core, at most 4.
    """

    max_records: int = 2_000_000
    max_bytes: int = 512_000_000
    max_span_us: int = 3_600_000_000
    batch_target_us: int = 1_000_000
    call_below_us: int = 250_000
    poll_us: int = 10_000
    source_wait_us: int = 300_000_000
    store_wait_us: int = 300_000_000
    worker_wait_us: int = 300_000_000
    attempts: int = 5
    pending_batches: int = 10
    pending_bytes: int = 256_000_000
    manifests: int = 100
    retain_us: int = 172_800_000_000
    gc_every: int = 50
    heartbeat_us: int = 10_000_000
    takeover_watch_us: int = 25_000_000
    marker_retention_us: int = 604_800_000_000
    workers: int = 0

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            least = 0 if name in ("workers", "takeover_watch_us", "call_below_us") else 1
            if getattr(self, name) < least:
                shown = name.removesuffix("_us")
                raise SettingError(f"microstream.{shown}={getattr(self, name)}: must be at least {least}.")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from a mapping as users write it: durations as text, unknown names refused."""
        known = {f.name for f in fields(cls)}
        chosen = {}
        for name, value in values.items():
            key = name.replace("-", "_")
            if f"{key}_us" in known:
                chosen[f"{key}_us"] = _duration(key, value)
            elif key in known and not key.endswith("_us"):
                chosen[key] = _whole(key, value)
            else:
                names = ", ".join(sorted(k.removesuffix("_us") for k in known))
                raise SettingError(f"microstream.{name}: there is no such setting. There are: {names}.")
        return cls(**chosen)


def _duration(name: str, value: Any) -> int:
    try:
        return duration_us(value, argument=f"microstream.{name}")
    except PlanError as problem:
        raise SettingError(str(problem)) from problem


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise SettingError(f"microstream.{name}={value!r}: must be a whole number.")
    return value
