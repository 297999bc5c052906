"""The batch state machine: at most two batches in flight, events in, instructions out. No clock, loop, Dask or network.

A flight goes READING (level 0) -> READ -> MERGING (levels 1..top, one after the other) -> MERGED -> COMMITTING -> gone.
What may overlap, and what never may:

- level 0 of N+1 starts only when *all* of level 0 of N returned: only then is the watermark known that judges its rows;
- level 1 of N+1 starts only when every task of N returned: state N is its base;
- N+1 commits only after N did;
- when N fails, N+1 stood on it and is run again too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

from microstream.errors import InternalError

__all__ = [
    "Commit",
    "CommitDone",
    "Discard",
    "Event",
    "Failed",
    "Flight",
    "Instruction",
    "LevelDone",
    "Machine",
    "Phase",
    "Planned",
    "Submit",
    "advance",
    "may_plan",
]


class Phase(Enum):
    """Where a flight is."""

    READING = "reading"
    READ = "read"
    MERGING = "merging"
    MERGED = "merged"
    COMMITTING = "committing"


@dataclass(frozen=True, slots=True)
class Flight:
    """One batch on its way; `number` is its attempt, unique in this driver; `level` the stage that runs or ran last."""

    batch: int
    number: int
    phase: Phase
    level: int = 0
    again: bool = False
    """Whether an earlier attempt of this batch failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """All there is to know: the next batch id, the highest level of the plan, and the flights, oldest first.

    Attempt numbers are never used twice, also not for a batch that is planned anew: they are part of Dask's task keys.
    """

    next_batch: int
    top_level: int
    next_number: int = 0
    flights: tuple[Flight, ...] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """The driver has a slice for `batch`."""

    batch: int


@dataclass(frozen=True, slots=True)
class LevelDone:
    """All lanes of `level` returned, and their receipts were accepted."""

    batch: int
    number: int
    level: int


@dataclass(frozen=True, slots=True)
class CommitDone:
    """The manifest of `batch` is durable and no newer epoch exists."""

    batch: int
    number: int


@dataclass(frozen=True, slots=True)
class Failed:
    """Attempt `number` of `batch` cannot be completed (task error, lost worker, refused receipt, lost commit)."""

    batch: int
    number: int


Event: TypeAlias = Planned | LevelDone | CommitDone | Failed


@dataclass(frozen=True, slots=True)
class Submit:
    """Start all lanes of `level`."""

    batch: int
    number: int
    level: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Write the manifest of `batch`."""

    batch: int
    number: int


@dataclass(frozen=True, slots=True)
class Discard:
    """Forget everything of that attempt."""

    batch: int
    number: int


Instruction: TypeAlias = Submit | Commit | Discard


def may_plan(machine: Machine) -> bool:
    """Whether a slice for the next batch is wanted now."""
    match machine.flights:
        case ():
            return True
        case (only,):
            return only.phase is not Phase.READING
        case _:
            return False


def advance(machine: Machine, event: Event) -> tuple[Machine, tuple[Instruction, ...]]:
    """The machine after `event`, and what the driver must do now, in order. Stale events change nothing."""
    match event:
        case Planned(batch):
            if batch != machine.next_batch or not may_plan(machine):
                raise InternalError(f"batch {batch} was planned out of turn in {machine}", batch=batch)
            number = machine.next_number
            flights = (*machine.flights, Flight(batch, number, Phase.READING))
            machine = replace(machine, next_batch=batch + 1, next_number=number + 1, flights=flights)
            return machine, (Submit(batch, number, 0),)
        case LevelDone(batch, number, level):
            flight = _find(machine, batch, number)
            if flight is None or level != flight.level or flight.phase not in (Phase.READING, Phase.MERGING):
                return machine, ()
            return _settle(_put(machine, _level_done(flight, machine.top_level)))
        case CommitDone(batch, number):
            flight = _find(machine, batch, number)
            if flight is None or flight.phase is not Phase.COMMITTING:
                return machine, ()
            return _settle(replace(machine, flights=machine.flights[1:]))
        case Failed(batch, number):
            return (machine, ()) if _find(machine, batch, number) is None else _restart(machine, batch)


def _level_done(flight: Flight, top_level: int) -> Flight:
    if flight.level == top_level:
        return replace(flight, phase=Phase.MERGED)
    return replace(flight, phase=Phase.READ)


def _settle(machine: Machine) -> tuple[Machine, tuple[Instruction, ...]]:
    """Start everything that the order of batches allows now."""
    instructions: list[Instruction] = []
    flights = list(machine.flights)
    for place, flight in enumerate(flights):
        older = flights[place - 1] if place else None
        if flight.phase is Phase.READ and _may_merge(flight, older):
            flight = replace(flight, phase=Phase.MERGING, level=flight.level + 1)
            instructions.append(Submit(flight.batch, flight.number, flight.level))
        elif flight.phase is Phase.MERGED and older is None:
            flight = replace(flight, phase=Phase.COMMITTING)
            instructions.append(Commit(flight.batch, flight.number))
        flights[place] = flight
    return replace(machine, flights=tuple(flights)), tuple(instructions)


def _may_merge(flight: Flight, older: Flight | None) -> bool:
    """State of the older batch must be there; a second try waits until it can be loaded from the manifest."""
    if older is None or flight.level > 0:
        return True
    return not flight.again and older.phase in (Phase.MERGED, Phase.COMMITTING)


def _restart(machine: Machine, batch: int) -> tuple[Machine, tuple[Instruction, ...]]:
    """A new attempt of `batch`; a younger one, which stood on it, is dropped and will be planned anew."""
    kept = tuple(f for f in machine.flights if f.batch < batch)
    gone = [f for f in machine.flights if f.batch >= batch]
    number = machine.next_number
    again = Flight(batch, number, Phase.READING, again=True)
    instructions: list[Instruction] = [Discard(f.batch, f.number) for f in gone]
    instructions.append(Submit(batch, number, 0))
    machine = replace(machine, next_batch=batch + 1, next_number=number + 1, flights=(*kept, again))
    return machine, tuple(instructions)


def _find(machine: Machine, batch: int, number: int) -> Flight | None:
    return next((f for f in machine.flights if (f.batch, f.number) == (batch, number)), None)


def _put(machine: Machine, flight: Flight) -> Machine:
    flights = tuple(flight if f.batch == flight.batch else f for f in machine.flights)
    return replace(machine, flights=flights)
