"""The simulated world: one seed is one run; processes die and stand still at every step."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.testing.simulation.kernel import Actor, Faults, Killed, Step, Unanswered, World
from microstream.testing.simulation.loop import Stuck

seeds = st.integers(0, 2**32)

SHAKY = {"lost_request": 0.05, "lost_reply": 0.05, "late_request": 0.05, "crash": 0.01, "pause": 0.01}


def busy_run(seed: int) -> list[Step]:
    """Three processes that count on a shared board through an unreliable network, and are restarted when they
    die.
    """
    world = World(seed, Faults(**SHAKY))
    board: dict[str, int] = {}

    def count(name: str) -> None:
        for _ in range(20):
            try:
                world.call(f"add {name}", lambda: board.update({name: board.get(name, 0) + 1}))
            except Unanswered:
                world.sleep(0.01)

    async def supervise(name: str) -> None:
        for life in range(10):
            try:
                await world.start(world.actor(f"{name}{life}"), count, name)
                return
            except asyncio.CancelledError:
                await asyncio.sleep(0.5)

    async def main() -> None:
        await asyncio.gather(*(supervise(name) for name in ("a", "b", "c")))

    world.run(main(), until_s=10_000)
    return world.trace


@given(seed=seeds)
@settings(deadline=None, max_examples=30)
def test_the_same_seed_gives_the_same_trace(seed: int) -> None:
    first = busy_run(seed)

    second = busy_run(seed)

    assert second == first


def test_seeds_differ_and_hit_every_kind_of_misfortune() -> None:
    runs = [busy_run(seed) for seed in range(60)]

    outcomes = {step.outcome.split(" ")[0] for run in runs for step in run}

    assert len({tuple(run) for run in runs}) == len(runs)
    assert {"ok", "lost", "late", "crashed", "died,"} <= outcomes


def test_a_trace_does_not_depend_on_the_hash_seed_of_the_interpreter() -> None:
    program = "from test_kernel import busy_run; print(*busy_run(4711), sep='\\n')"

    traces = {
        subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.path.dirname(__file__)},
        ).stdout
        for hash_seed in ("1", "2")
    }

    assert len(traces) == 1


@given(seed=seeds)
@settings(deadline=None, max_examples=30)
def test_a_dead_process_does_nothing_more_outside_of_its_memory(seed: int) -> None:
    world = World(seed)
    effects: list[float] = []
    victim = world.actor("victim")

    def work() -> None:
        try:
            while True:
                world.call("effect", lambda: effects.append(world.loop.time()))
        finally:
            world.call("last words", lambda: effects.append(float("inf")))

    async def main() -> float:
        world.start(victim, work)
        await asyncio.sleep(world.random.uniform(0.001, 0.05))
        world.kill(victim)
        died = world.loop.time()
        await asyncio.sleep(10)
        return died

    died = world.run(main())

    assert all(at <= died for at in effects)


def test_the_request_of_a_dying_process_is_applied_in_some_runs_and_not_in_others() -> None:
    outcomes = set()

    for seed in range(20):
        world = World(seed)
        world.on_step = lambda actor, operation, world=world: world.kill(actor)
        effects: list[int] = []

        async def main(world: World = world, effects: list[int] = effects) -> None:
            await asyncio.wait([world.start(world.actor("a"), world.call, "effect", lambda: effects.append(1))])

        world.run(main())
        outcomes.add(len(effects))

    assert outcomes == {0, 1}


def test_a_paused_process_stands_still_with_its_loop_and_its_threads() -> None:
    world = World(1)
    ticks: list[tuple[str, float]] = []
    zombie = world.actor("zombie")

    def thread() -> None:
        for _ in range(100):
            world.call("tick", lambda: ticks.append(("thread", world.loop.time())))

    async def loop() -> None:
        for _ in range(100):
            await asyncio.sleep(0.003)
            ticks.append(("loop", world.loop.time()))

    async def main() -> None:
        both = [world.start(zombie, thread), world.spawn(zombie, loop())]
        await asyncio.sleep(0.1)
        world.pause(zombie, 60)
        await asyncio.gather(*both)

    world.run(main())

    assert not [at for _, at in ticks if 0.1 < at < 60.1]
    for kind in ("thread", "loop"):
        assert [at for k, at in ticks if k == kind and at < 0.1]
        assert [at for k, at in ticks if k == kind and at > 60.1]


def test_a_late_request_of_a_dead_process_is_applied_all_the_same() -> None:
    world = World(3, Faults(late_request=1.0))
    effects: list[int] = []
    sender = world.actor("sender")

    async def main() -> None:
        with pytest.raises(Unanswered):
            await world.start(sender, world.call, "effect", lambda: effects.append(1))
        world.kill(sender)
        await asyncio.sleep(30)

    world.run(main())

    assert effects == [1]


def test_a_blocking_call_on_the_event_loop_is_a_bug_that_is_found() -> None:
    world = World(0)
    driver = world.actor("driver")

    async def forgot_to_offload() -> None:
        world.call("store.get head", lambda: None)

    async def main() -> None:
        await world.spawn(driver, forgot_to_offload())

    with pytest.raises(RuntimeError, match="offload"):
        world.run(main())


def test_a_run_in_which_nothing_can_happen_any_more_is_stuck() -> None:
    world = World(0)

    async def main() -> None:
        await world.loop.create_future()

    with pytest.raises(Stuck, match="nothing is left"):
        world.run(main())


def test_tasks_of_a_killed_process_end_and_cannot_start_new_work() -> None:
    world = World(0)
    driver = world.actor("driver")
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(1_000)
        except asyncio.CancelledError:
            try:
                await world.offload(lambda: ended.append("offloaded"))
            except Killed:
                ended.append("killed")
            raise

    async def main(driver: Actor = driver) -> None:
        task = world.spawn(driver, work())
        await asyncio.sleep(1)
        world.kill(driver)
        await asyncio.wait([task])

    world.run(main())

    assert ended == ["killed"]
