"""The executor contract: what the driver needs of Dask, of an in-process engine and of the simulated cluster."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

import pyarrow as pa

from microstream.plan.stages import Stages
from microstream.runtime.task import PublishReceipt, PublishTask, StageReceipt, StageTask

__all__ = [
    "Engine",
    "EngineEvent",
    "EngineLost",
    "Exchange",
    "ExchangeLostError",
    "Fetch",
    "Job",
    "Offload",
    "Receipt",
    "Task",
    "TaskDone",
    "TaskFailed",
    "WorkerJoined",
    "WorkerLost",
]

T = TypeVar("T")
Task: TypeAlias = StageTask | PublishTask
Receipt: TypeAlias = StageReceipt | PublishReceipt


class Offload(Protocol):
    """Run a blocking function off the driver's loop (a thread; in the simulation, a greenlet)."""

    def __call__(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Awaitable[T]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What workers get once: the compiled plan and where the checkpoint is."""

    id: str
    epoch: int
    query: str
    stages: Stages
    checkpoint: str
    storage_options: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """The exchange element that one lane task left for another: rows of `operator` for lane `target`."""

    job: str
    epoch: int
    batch: int
    attempt: int
    level: int
    lane: int
    execution: str
    operator: str
    target: int


class ExchangeLostError(Exception):
    """The element is not on that worker (any more), or another execution's is: the attempt must be run again."""


class Exchange(Protocol):
    """How a task gets rows that another task of the same attempt left on some worker."""

    def fetch(self, address: str, wanted: Sequence[Fetch]) -> list[pa.Table]:
        """One table per element of `wanted`, all of which lie on worker `address`.

        Raises ExchangeLostError.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerJoined:
    """A worker is ready for tasks of this job."""

    address: str
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost:
    """A worker is gone for good (or has been paused for too long)."""

    address: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDone:
    """A task returned."""

    task: Task
    receipt: Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailed:
    """A task raised."""

    task: Task
    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLost:
    """The cluster as a whole is gone: nothing submitted will ever return."""

    reason: str


EngineEvent: TypeAlias = EngineLost | WorkerJoined | WorkerLost | TaskDone | TaskFailed


class Engine(Protocol):
    """Runs lane tasks on workers. Tasks may be lost, run twice or return late; events say what is known."""

    async def start(self, job: Job, notify: Callable[[EngineEvent], None]) -> None:
        """Ship the job to all workers; `notify` is called on the driver's loop, first with the workers there are."""
        ...

    def submit(self, tasks: Sequence[tuple[str, Task]]) -> None:
        """Start tasks, each on the worker with the address beside it. Returns at once."""
        ...

    def cancel(self, tasks: Sequence[Task]) -> None:
        """Forget tasks: their events may still come, but need not."""
        ...

    def memory_fraction(self) -> float:
        """How much of its memory the fullest worker uses, 0 to 1; 0 where that is not known."""
        ...

    async def close(self) -> None:
        """Forget the job on all workers; end what this engine started."""
        ...
