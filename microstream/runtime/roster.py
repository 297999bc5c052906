"""Which workers serve a job: learnt from the scheduler's events, and compared with its own list every second.

Never from a future: a task pinned to a worker that is gone stays pending, and events of a moment without a connection
are lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

from microstream.errors import CheckpointError
from microstream.runtime.engine import EngineEvent, EngineLost, Job, WorkerJoined, WorkerLost
from microstream.runtime.lanes import is_ready

__all__ = ["Roster"]

log = logging.getLogger("microstream.cluster")

LOOK_S = 1.0
PAUSED_LIMIT_S = 5.0
ANSWER_S = 30.0
READY_TRIES = 50
READY_PAUSE_S = 0.05


class Roster:
    """The workers of one job on one cluster.

    Parameters
    ----------
    client
        An asynchronous `distributed.Client`, connected.
    job
        What the workers must have before they get tasks.
    notify
        Told who joined, who is lost, and when the scheduler is.
    spawn
        Starts work on the loop.

    Attributes
    ----------
    memory_fraction
        How much of its memory the fullest worker used at the last look.
    """

    def __init__(
        self,
        client: Any,
        job: Job,
        notify: Callable[[EngineEvent], None],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self.memory_fraction = 0.0
        self._client, self._job, self._notify, self._spawn = client, job, notify, spawn
        self._scheduler = ""
        self._serving: set[str] = set()
        self._greeted: set[str] = set()
        self._refused: set[str] = set()
        self._paused: dict[str, int] = {}

    async def start(self) -> None:
        """Report the workers there are, then keep watch.

        Raises
        ------
        CheckpointError
            One of them cannot read the checkpoint.
        """
        found = await self._client.scheduler.identity(n_workers=-1)
        self._scheduler = found["id"]
        self._client.subscribe_topic("all", self._on_event)
        for address in found["workers"]:
            problem = await self._greet(address)
            if problem:
                raise CheckpointError.of(
                    self._job.checkpoint,
                    [f"worker {address} cannot read it: {problem}"],
                    "A local folder serves only workers of this machine: use a shared folder or an object store.",
                )
        self._spawn(self._watch())

    def stop(self) -> None:
        """Listen no more."""
        with suppress(ValueError):
            self._client.unsubscribe_topic("all")

    def _on_event(self, event: tuple[float, Any]) -> None:
        _, message = event
        match message:
            case {"action": "add-worker", "worker": str() as address}:
                self._spawn(self._welcome(address))
            case {"action": "remove-worker", "worker": str() as address}:
                self._lose(address, "removed by the scheduler")

    async def _watch(self) -> None:
        """Compare with the scheduler's list until it is not the scheduler we know any more."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                found = await asyncio.wait_for(self._client.scheduler.identity(n_workers=-1), ANSWER_S)
            except Exception as problem:  # noqa: BLE001 - whatever it is, the scheduler did not answer
                self._notify(EngineLost(reason=f"the Dask scheduler does not answer ({problem!r})"))
                return
            if found["id"] != self._scheduler:
                self._notify(EngineLost(reason="the Dask scheduler was restarted"))
                return
            self._compare(found["workers"])

    def _compare(self, workers: Mapping[str, Mapping[str, Any]]) -> None:
        used = [w["metrics"].get("memory", 0) / w["memory_limit"] for w in workers.values() if w["memory_limit"]]
        self.memory_fraction = max(used, default=0.0)
        for address in self._serving - workers.keys():
            self._lose(address, "unknown to the scheduler")
        paused = {address for address, worker in workers.items() if worker["status"] == "paused"}
        self._paused = {address: self._paused.get(address, 0) + 1 for address in paused}
        for address in self._serving & paused:
            if self._paused[address] * LOOK_S >= PAUSED_LIMIT_S:
                self._lose(address, f"paused for {PAUSED_LIMIT_S:.0f} s")
        running = {address for address, worker in workers.items() if worker["status"] == "running"}
        for address in running - self._serving - self._greeted - self._refused:
            self._spawn(self._welcome(address))

    def _lose(self, address: str, reason: str) -> None:
        self._greeted.discard(address)
        self._refused.discard(address)
        if address in self._serving:
            self._serving.discard(address)
            self._notify(WorkerLost(address=address, reason=reason))

    async def _welcome(self, address: str) -> None:
        problem = await self._greet(address)
        if problem:
            self._refused.add(address)
            log.error("worker %s gets no tasks, it cannot read the checkpoint: %s", address, problem)

    async def _greet(self, address: str) -> str:
        """Report a worker once it has the job; answers why it cannot read the checkpoint, or "" otherwise."""
        if address in self._serving or address in self._greeted:
            return ""
        self._greeted.add(address)
        try:
            for _ in range(READY_TRIES):
                answer = (await self._client.run(is_ready, self._job.id, self._job.epoch, workers=[address]))[address]
                if isinstance(answer, str):
                    return answer
                if answer is not None and address in self._greeted:
                    self._serving.add(address)
                    self._notify(WorkerJoined(address=address, threads=answer))
                    return ""
                await asyncio.sleep(READY_PAUSE_S)
            log.warning("worker %s does not take the job; asking again", address)
        except (OSError, ValueError, KeyError) as problem:
            log.info("worker %s does not answer: %s", address, problem)
        finally:
            self._greeted.discard(address)
        return ""
