from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.errors import InternalError
from microstream.runtime.batch import (
    Commit,
    CommitDone,
    Discard,
    Event,
    Failed,
    Instruction,
    LevelDone,
    Machine,
    Phase,
    Planned,
    Submit,
    advance,
    may_plan,
)

Attempt = tuple[int, int]


@dataclass
class World:
    """What the driver does with instructions, and the rules of the docstring, written down once more."""

    machine: Machine
    committed: int
    live: dict[Attempt, int] = field(default_factory=dict)
    """Attempt -> levels done."""
    out: list[Submit | Commit] = field(default_factory=list)
    numbers: set[int] = field(default_factory=set)
    gone: list[Attempt] = field(default_factory=list)

    @classmethod
    def new(cls, top_level: int, first_batch: int = 0) -> World:
        return cls(machine=Machine(next_batch=first_batch, top_level=top_level), committed=first_batch - 1)

    def tell(self, event: Event) -> tuple[Instruction, ...]:
        """Pass `event` to the machine and check whatever it asks for."""
        self.machine, instructions = advance(self.machine, event)
        for instruction in instructions:
            self._check(instruction)
        assert len(self.live) <= 2
        return instructions

    def plan(self) -> None:
        self.tell(Planned(self.machine.next_batch))

    def succeed(self, done: Submit | Commit) -> None:
        """`done`, which is out, worked."""
        self.out.remove(done)
        attempt = (done.batch, done.number)
        if isinstance(done, Submit):
            self.live[attempt] += 1
            self.tell(LevelDone(done.batch, done.number, done.level))
        else:
            assert done.batch == self.committed + 1
            self.committed = done.batch
            del self.live[attempt]
            self.gone.append(attempt)
            self.tell(CommitDone(done.batch, done.number))

    def fail(self, attempt: Attempt) -> None:
        """A flight that is live fails: it and the younger ones must go before anything else is asked for."""
        expected = {Discard(*a) for a in self.live if a[0] >= attempt[0]}
        instructions = self.tell(Failed(*attempt))
        assert set(instructions[: len(expected)]) == expected

    def finish(self, batches: int) -> None:
        """Everything that is out works, and as many batches are planned as are missing."""
        for _ in range(100 * (batches + 1)):
            if self.out:
                self.succeed(self.out[0])
            elif may_plan(self.machine) and self.machine.next_batch < batches:
                self.plan()
            else:
                return
        raise AssertionError("it goes round in circles")

    def _check(self, instruction: Instruction) -> None:
        match instruction:
            case Submit(batch, number, 0):
                assert number not in self.numbers
                self.numbers.add(number)
                older = self._of(batch - 1)
                assert older is None or self.live[older] >= 1, "the watermark that judges its rows is not known"
                assert batch == self.committed + (2 if older else 1)
                self.live[batch, number] = 0
                self.out.append(instruction)
            case Submit(batch, number, level):
                assert self.live[batch, number] == level
                older = self._of(batch - 1)
                assert level > 1 or older is None or self.live[older] == self.machine.top_level + 1, "no base"
                self.out.append(instruction)
            case Commit(batch, number):
                assert self.live[batch, number] == self.machine.top_level + 1
                assert batch == self.committed + 1
                assert not any(isinstance(o, Commit) for o in self.out)
                self.out.append(instruction)
            case Discard(batch, number):
                del self.live[batch, number]
                self.gone.append((batch, number))
                self.out = [o for o in self.out if (o.batch, o.number) != (batch, number)]

    def _of(self, batch: int) -> Attempt | None:
        return next((a for a in self.live if a[0] == batch), None)


def do_anything(world: World, data: st.DataObject) -> None:
    """One event of any kind, also ones that come too late or make no sense."""
    choices = ["stale"] * bool(world.gone) + ["early"]
    choices += ["plan"] * may_plan(world.machine) + ["succeed"] * (3 * bool(world.out)) + ["fail"] * bool(world.live)
    match data.draw(st.sampled_from(choices)):
        case "plan":
            world.plan()
        case "succeed":
            world.succeed(data.draw(st.sampled_from(world.out)))
        case "fail":
            world.fail(data.draw(st.sampled_from(sorted(world.live))))
        case "stale":
            batch, number = data.draw(st.sampled_from(world.gone))
            level = data.draw(st.integers(0, world.machine.top_level))
            ignored(world, [LevelDone(batch, number, level), CommitDone(batch, number), Failed(batch, number)])
        case "early":
            committing = {(o.batch, o.number) for o in world.out if isinstance(o, Commit)}
            running = {(o.batch, o.number, o.level) for o in world.out if isinstance(o, Submit)}
            early: list[Event] = [CommitDone(*a) for a in world.live if a not in committing]
            levels = range(world.machine.top_level + 2)
            early += [LevelDone(*a, level) for a in world.live for level in levels if (*a, level) not in running]
            ignored(world, early)


def ignored(world: World, events: list[Event]) -> None:
    for event in events:
        before = world.machine
        assert world.tell(event) == ()
        assert world.machine == before


@settings(deadline=None, max_examples=200)
@given(data=st.data(), top_level=st.integers(0, 3), steps=st.integers(0, 40), first=st.integers(0, 3))
def test_no_order_of_events_breaks_the_order_of_batches(
    data: st.DataObject, top_level: int, steps: int, first: int
) -> None:
    world = World.new(top_level, first)

    for _ in range(steps):
        do_anything(world, data)

    planned = world.machine.next_batch
    world.finish(planned)
    assert world.committed == planned - 1
    assert not world.live


@settings(deadline=None)
@given(data=st.data(), top_level=st.integers(0, 2), batches=st.integers(1, 6))
def test_whatever_fails_for_a_while_every_batch_is_committed_once_and_in_order(
    data: st.DataObject, top_level: int, batches: int
) -> None:
    world = World.new(top_level)

    for _ in range(data.draw(st.integers(0, 15))):
        do_anything(world, data)
    world.finish(batches)

    assert world.committed >= batches - 1
    assert len(world.numbers) == world.machine.next_number


def test_reading_the_next_batch_overlaps_with_merging_this_one() -> None:
    world = World.new(top_level=1)
    world.plan()

    world.succeed(Submit(0, 0, 0))
    world.plan()

    assert world.out == [Submit(0, 0, 1), Submit(1, 1, 0)]


def test_the_next_batch_merges_while_this_one_is_being_committed() -> None:
    world = World.new(top_level=1)
    world.plan()
    world.succeed(Submit(0, 0, 0))
    world.plan()
    world.succeed(Submit(1, 1, 0))

    world.succeed(Submit(0, 0, 1))

    assert set(world.out) == {Commit(0, 0), Submit(1, 1, 1)}


def test_a_second_try_merges_only_from_a_committed_base() -> None:
    world = World.new(top_level=1)
    world.plan()
    world.succeed(Submit(0, 0, 0))
    world.plan()
    world.succeed(Submit(0, 0, 1))
    world.fail((1, 1))

    world.succeed(Submit(1, 2, 0))

    assert world.out == [Commit(0, 0)]
    world.succeed(Commit(0, 0))
    assert world.out == [Submit(1, 2, 1)]


def test_a_failure_of_the_younger_batch_leaves_the_older_alone() -> None:
    world = World.new(top_level=1)
    world.plan()
    world.succeed(Submit(0, 0, 0))
    world.plan()

    world.fail((1, 1))

    assert [(f.batch, f.number, f.phase) for f in world.machine.flights] == [
        (0, 0, Phase.MERGING),
        (1, 2, Phase.READING),
    ]


def test_a_failure_of_the_older_batch_asks_for_a_new_plan_of_the_younger() -> None:
    world = World.new(top_level=1)
    world.plan()
    world.succeed(Submit(0, 0, 0))
    world.plan()

    world.fail((0, 0))

    assert world.machine.next_batch == 1
    assert world.out == [Submit(0, 2, 0)]


def test_without_operators_a_batch_is_committed_after_reading() -> None:
    world = World.new(top_level=0)
    world.plan()

    world.succeed(Submit(0, 0, 0))

    assert world.out == [Commit(0, 0)]


@pytest.mark.parametrize("batch", [0, 2])
def test_a_plan_out_of_turn_is_our_bug(batch: int) -> None:
    machine = Machine(next_batch=1, top_level=1)

    with pytest.raises(InternalError, match=f"batch {batch} was planned out of turn"):
        advance(machine, Planned(batch))


def test_nothing_is_planned_while_a_batch_reads_or_two_are_in_flight() -> None:
    world = World.new(top_level=1)
    assert may_plan(world.machine)

    world.plan()
    assert not may_plan(world.machine)
    world.succeed(Submit(0, 0, 0))
    assert may_plan(world.machine)
    world.plan()
    world.succeed(Submit(1, 1, 0))

    assert not may_plan(world.machine)
