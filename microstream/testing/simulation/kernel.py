"""The simulated world: processes that can die or stand still at every step, and calls between them that can
get lost.

Production code runs unchanged. The driver's coroutines are tasks of a `VirtualLoop`; blocking code
(`offload`, the tasks of workers) runs in greenlets. Every call that leaves a process goes through
`World.call`: the request travels, is applied at one instant, and the reply travels; everything else may
happen meanwhile. One seeded generator makes all choices, so a seed is a complete description of a run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple, TypeVar

from greenlet import getcurrent, greenlet

from microstream.testing.simulation.loop import ACTOR, Due, Process, VirtualLoop

__all__ = ["WORLD", "Actor", "Faults", "Killed", "Mutex", "Step", "Unanswered", "World", "WorldClock"]

T = TypeVar("T")

EPOCH_US = 1_700_000_000_000_000
"""Wall clock of the world at virtual time 0."""


class Killed(BaseException):
    """The process is dead: whatever it still tries to do outside of its own memory does not happen.

    Not an Exception: no handler of production code may take it for an answer.
    """


class Unanswered(Exception):
    """No reply came in time: the request was lost, or only its reply, or it will arrive yet."""


class Actor(Process):
    """One process: a driver, a worker. Everything it holds in memory is gone when it dies."""

    __slots__ = ("alive", "name", "on_death", "on_pause", "skew_us", "sleepers", "tasks")

    def __init__(self, name: str, *, skew_us: int = 0) -> None:
        super().__init__()
        self.name = name
        self.alive = True
        self.skew_us = skew_us
        self.sleepers: dict[greenlet, Due | None] = {}
        self.tasks: list[asyncio.Task[Any]] = []
        self.on_death: list[Callable[[], None]] = []
        self.on_pause: list[Callable[[float], None]] = []

    def __repr__(self) -> str:
        return self.name


@dataclass(slots=True, kw_only=True)
class Faults:
    """How often things go wrong, as probabilities per call; all zero: a perfect world (but not a fast one)."""

    lost_request: float = 0.0
    lost_reply: float = 0.0
    late_request: float = 0.0
    """The caller gives up, and the request is applied after that."""
    crash: float = 0.0
    pause: float = 0.0
    slow: float = 0.01
    immortal: set[str] = field(default_factory=set)
    """Names of actors that `crash` and `pause` spare."""

    def stop(self) -> None:
        """From now on nothing goes wrong any more."""
        self.lost_request = self.lost_reply = self.late_request = self.crash = self.pause = 0.0
        self.slow = 0.0


class Step(NamedTuple):
    """One line of the trace."""

    time_s: float
    actor: str
    operation: str
    outcome: str

    def __str__(self) -> str:
        return f"{self.time_s:11.6f} {self.actor:<10} {self.operation} -> {self.outcome}"


class World:
    """Virtual time, processes, faults and the trace of one run.

    Parameters
    ----------
    seed
        Decides everything that is random in the run.
    faults
        What goes wrong how often; may be changed while the world runs.
    """

    def __init__(self, seed: int, faults: Faults | None = None) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.faults = faults if faults is not None else Faults()
        self.loop = VirtualLoop()
        self.trace: list[Step] = []
        self.actors: list[Actor] = []
        self.on_step: Callable[[Actor, str], None] | None = None
        """Called before every request; may kill or pause (crash points of a test)."""
        self.background = Context()
        """What belongs to no process: networks, brokers, schedulers. Callbacks in it run whoever has died."""
        self.background.run(lambda: WORLD.set(self))
        self._hub = getcurrent()
        self._ids = 0

    # -- running -----------------------------------------------------------------------------------

    def run(self, main: Coroutine[Any, Any, T], *, until_s: float = float("inf")) -> T:
        """Run `main` to its end; raises `Stuck` when that is impossible or takes more than `until_s` virtual
        seconds.
        """
        self._hub = getcurrent()
        token = WORLD.set(self)
        try:
            return self.loop.run_until_complete(self.loop.create_task(main), until_s=until_s)
        finally:
            self._bury()
            WORLD.reset(token)

    def _bury(self) -> None:
        """End what is left over now: garbage collection would do it at a moment that no seed determines."""
        for actor in self.actors:
            actor.on_death.clear()
            self.kill(actor, "end of the world")
        self.loop.drain()

    def actor(self, name: str, *, skew_us: int = 0) -> Actor:
        """A new process."""
        actor = Actor(name, skew_us=skew_us)
        self.actors.append(actor)
        return actor

    def spawn(self, actor: Actor, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `coroutine` as a task of `actor`'s event loop."""
        context = copy_context()
        context.run(ACTOR.set, actor)
        task = self.loop.create_task(coroutine, context=context)
        actor.tasks.append(task)
        return task

    def start(self, actor: Actor, function: Callable[..., T], *args: Any, **kwargs: Any) -> asyncio.Future[T]:
        """Run blocking `function` on a thread of `actor`: a greenlet, which every `call` suspends."""
        future: asyncio.Future[T] = self.loop.create_future()

        def body() -> None:
            try:
                self._deliver(future, function(*args, **kwargs), None)
            except Killed:
                future.cancel()
            except Exception as error:  # noqa: BLE001 - whoever awaits the future judges it
                self._deliver(future, None, error)
            finally:
                actor.sleepers.pop(thread, None)

        thread = greenlet(body, parent=self._hub)
        context = copy_context()
        context.run(ACTOR.set, actor)
        thread.gr_context = context
        actor.sleepers[thread] = self.loop.call_soon(self._resume, actor, thread, context=context)
        return future

    def _deliver(self, future: asyncio.Future[T], result: Any, error: Exception | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
            future.exception()  # an unread one would be reported by the garbage collector

    async def offload(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Run blocking `function` off the loop, on a thread of the process that asks."""
        actor = self.current()
        if not actor.alive:
            raise Killed
        return await self.start(actor, function, *args, **kwargs)

    # -- processes ---------------------------------------------------------------------------------

    def current(self) -> Actor:
        """The process on whose behalf the caller runs."""
        actor = ACTOR.get()
        if not isinstance(actor, Actor):
            raise RuntimeError("this call needs a process: start it with World.spawn or World.start")
        return actor

    def kill(self, actor: Actor, why: str = "killed") -> None:
        """End `actor` between two instructions; what it has sent is on its way, what it remembers is gone."""
        if not actor.alive:
            return
        actor.alive = False
        actor.paused_until_s = 0.0
        self.note(actor, "death", why)
        for task in actor.tasks:
            task.cancel()
        for thread, handle in list(actor.sleepers.items()):
            if handle is not None:
                handle.cancel()
                actor.sleepers[thread] = self.loop.call_soon(self._resume, actor, thread, context=self.background)
        for told in actor.on_death:
            self.loop.call_soon(told, context=self.background)

    def pause(self, actor: Actor, seconds: float) -> None:
        """Let `actor` stand still, then go on as if nothing had happened."""
        if actor.alive:
            actor.paused_until_s = max(actor.paused_until_s, self.loop.time() + seconds)
            self.note(actor, "pause", f"{seconds:.1f} s")
            for told in actor.on_pause:
                told(seconds)

    def new_id(self) -> str:
        """32 hexadecimal digits, never the same twice; starts with a counter so that traces are readable."""
        self._ids += 1
        return f"{self._ids:08x}{self.random.getrandbits(96):024x}"

    # -- steps -------------------------------------------------------------------------------------

    def call(self, operation: str, apply: Callable[[], T], *, safe: bool = False) -> T:
        """Do `apply` outside of the calling process: at one instant, some time after the call, before the
        return.

        Parameters
        ----------
        operation
            For the trace.
        apply
            What happens. Its exception is the reply.
        safe
            Whether the network never loses it (calls within a machine).

        Raises
        ------
        Unanswered
            Nothing came back; `apply` ran, or did not, or will.
        Killed
            The caller died meanwhile; `apply` ran, or did not.
        """
        actor = self.current()
        self._chance(actor, operation)
        fate = "" if safe else self._fate()
        try:
            self._suspend(actor, self._latency_s())
        except Killed:
            applied = actor.alive is False and self.random.random() < 0.5 and self._applied(apply)
            self.note(actor, operation, "died, applied" if applied else "died, not applied")
            raise
        match fate:
            case "":
                return self._answered(actor, operation, apply)
            case "lost reply":
                self._applied(apply)
            case "late request":
                self.loop.call_later(self.random.uniform(0.1, 20.0), self._applied, apply, context=self.background)
        self.note(actor, operation, fate)
        self._suspend(actor, self.random.uniform(0.2, 3.0))
        raise Unanswered(f"{operation}: no answer")

    def _answered(self, actor: Actor, operation: str, apply: Callable[[], T]) -> T:
        try:
            result = apply()
        except Exception as error:
            self.note(actor, operation, type(error).__name__)
            self._suspend(actor, self._latency_s())
            raise
        self.note(actor, operation, "ok")
        self._suspend(actor, self._latency_s())
        return result

    def _applied(self, apply: Callable[[], Any]) -> bool:
        """Whether `apply` had an effect: its reply, be it an error, reaches nobody."""
        try:
            apply()
        except Exception:  # noqa: BLE001 - refused by the other side; the caller never learns of it
            return False
        return True

    def sleep(self, seconds: float) -> None:
        """Suspend the calling greenlet for `seconds` of virtual time."""
        self._suspend(self.current(), seconds)

    def note(self, actor: Actor | None, operation: str, outcome: str) -> None:
        """Add a line to the trace."""
        self.trace.append(Step(self.loop.time(), actor.name if actor else "-", operation, outcome))

    def _chance(self, actor: Actor, operation: str) -> None:
        """Misfortunes that befall a process just before it calls."""
        if not actor.alive:
            raise Killed
        if self.on_step is not None:
            self.on_step(actor, operation)
        if actor.name not in self.faults.immortal:
            if self.faults.crash and self.random.random() < self.faults.crash:
                self.kill(actor, f"crashed at {operation}")
            elif self.faults.pause and self.random.random() < self.faults.pause:
                self.pause(actor, self.random.uniform(1.0, 90.0))

    def _fate(self) -> str:
        faults, draw = self.faults, self.random.random()
        for name, rate in (
            ("lost request", faults.lost_request),
            ("lost reply", faults.lost_reply),
            ("late request", faults.late_request),
        ):
            if draw < rate:
                return name
            draw -= rate
        return ""

    def _latency_s(self) -> float:
        """Mostly a few milliseconds; now and then so long that everything else overtakes."""
        if self.faults.slow and self.random.random() < self.faults.slow:
            return self.random.uniform(0.1, 3.0)
        return self.random.uniform(0.0002, 0.004)

    def _suspend(self, actor: Actor, seconds: float) -> None:
        thread = getcurrent()
        if thread is self._hub:
            raise RuntimeError("a blocking call on the event loop: production code must offload it")
        if actor.alive:
            actor.sleepers[thread] = self.loop.call_later(seconds, self._resume, actor, thread)
            self._hub.switch()
        if not actor.alive:
            raise Killed

    def _resume(self, actor: Actor, thread: greenlet) -> None:
        actor.sleepers[thread] = None
        thread.switch()


class Mutex:
    """A lock between threads of one simulated process: a `threading.Lock` would stop the whole world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._held = False

    def __enter__(self) -> None:
        while self._held:
            self._world.sleep(self._world.random.uniform(0.001, 0.005))
        self._held = True

    def __exit__(self, *_error: object) -> None:
        self._held = False


WORLD: ContextVar[World] = ContextVar("microstream_simulation_world")
"""The world that runs, for functions of a query that cannot be given it (they are part of the plan)."""


class WorldClock:
    """The wall clock of one machine: virtual time, off by the machine's skew."""

    def __init__(self, world: World, actor: Actor | None = None) -> None:
        self._world = world
        self._skew_us = actor.skew_us if actor is not None else 0

    def now_us(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        return EPOCH_US + self._skew_us + int(self._world.loop.time() * 1_000_000)
