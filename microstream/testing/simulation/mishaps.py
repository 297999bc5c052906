"""What befalls the checkpoint itself in some runs: an older copy is restored, a bit flips, people pin manifests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Protocol

from microstream.checkpoint.commit import read_manifest
from microstream.checkpoint.keys import MANIFESTS, seq_of
from microstream.checkpoint.pins import pin, unpin
from microstream.checkpoint.store import NotFoundError, StoreError
from microstream.errors import CheckpointError
from microstream.testing.simulation.broker import Broker
from microstream.testing.simulation.cluster import SimCluster
from microstream.testing.simulation.kernel import Actor, World
from microstream.testing.simulation.sink import rows_of
from microstream.testing.simulation.store import Bucket, SimStore
from microstream.testing.simulation.watch import CheckpointWatch, objects_of

__all__ = ["Mishap", "Stage", "flip_a_bit", "pin_now_and_then", "raise_a_zombie", "roll_back"]

QUIET_S = 90.0
"""After everybody was killed: open transactions have timed out, late requests have arrived."""


class Stage(Protocol):
    """What a mishap needs of the run."""

    world: World
    bucket: Bucket
    watch: CheckpointWatch
    broker: Broker
    cluster: SimCluster
    over: bool

    def kill_drivers(self) -> None:
        """Kill every driver there is."""
        ...


@dataclass(slots=True)
class Mishap:
    """What happened to the checkpoint. While `halted`, no driver is started."""

    halted: bool = False
    rolled_back: bool = False
    damaged: bool = False
    refused: bool = False
    """A driver would not go on with this checkpoint: the only right answer, if rows had been published since."""
    outputs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def explains(self, error: BaseException) -> bool:
        """Whether a driver may end for good with `error`."""
        return (self.rolled_back or self.damaged) and isinstance(error, CheckpointError)

    def problems(self, broker: Broker) -> list[str]:
        """What was published although the checkpoint had been refused."""
        after = {topic: rows_of(broker, topic) for topic in self.outputs}
        return [
            f"{topic} changed after the checkpoint was rolled back"
            for topic in after
            if after[topic] != self.outputs[topic]
        ]


async def roll_back(stage: Stage, mishap: Mishap, topics: tuple[str, ...], span_s: float) -> None:
    """Copy the bucket, restore the copy some time later, with everybody killed in between."""
    random = stage.world.random
    await asyncio.sleep(random.uniform(0.5, span_s))
    while stage.watch.head is None and not stage.over:
        await asyncio.sleep(0.5)
    copy = stage.bucket.snapshot()
    await asyncio.sleep(random.uniform(0.1, span_s))
    if stage.over:
        return
    mishap.halted = True
    stage.kill_drivers()
    stage.cluster.kill_workers()
    await asyncio.sleep(QUIET_S)
    stage.bucket.roll_back(copy)
    stage.watch.rolled_back()
    mishap.outputs = {topic: rows_of(stage.broker, topic) for topic in topics}
    mishap.rolled_back, mishap.halted = True, False
    stage.world.note(None, "rolled back", f"{len(copy)} objects")


async def flip_a_bit(stage: Stage, mishap: Mishap, span_s: float) -> None:
    """Damage an object that the newest manifest names, and make sure that nobody remembers its content."""
    random = stage.world.random
    await asyncio.sleep(random.uniform(1.0, span_s))
    while not stage.over:
        used = sorted(set(objects_of(stage.watch.head))) if stage.watch.head is not None else []
        if used:
            key = random.choice(used)
            stage.bucket.flip_bit(key, random.randrange(8 * len(stage.bucket.objects[key])))
            mishap.damaged = True
            stage.world.note(None, "bit flip", key)
            stage.cluster.kill_workers()
            return
        await asyncio.sleep(0.2)


def raise_a_zombie(stage: Stage) -> None:
    """The first driver falls asleep on its way to a manifest, and wakes long after another one took over."""
    random = stage.world.random
    waking = [random.randint(2, 8)]

    def lull(actor: Actor, operation: str) -> None:
        if actor.name == "driver0" and operation.startswith("store.create manifest/"):
            waking[0] -= 1
            if waking[0] == 0:
                stage.world.pause(actor, random.uniform(40.0, 120.0))

    stage.world.on_step = lull


async def pin_now_and_then(stage: Stage, store: SimStore) -> None:
    """A person who pins the newest manifest, lets go of it later, and pins another one."""
    world = stage.world
    person = world.actor("person")
    world.faults.immortal.add(person.name)

    def pin_one(number: int) -> None:
        seqs = [seq for key in store.list(MANIFESTS) if (seq := seq_of(key)) is not None]
        if seqs:
            pin(store, f"pin{number}", read_manifest(store, max(seqs)), id=world.new_id())

    for number in range(4):
        for work in (lambda n=number: pin_one(n), lambda n=number: unpin(store, f"pin{n}")):
            try:
                await world.start(person, work)
            except (StoreError, NotFoundError, CheckpointError):
                world.note(person, "pin", "given up")
            await asyncio.sleep(world.random.uniform(0.5, 15.0))
