from __future__ import annotations

import pytest
from faulty_store import Fault, FaultyStore
from history import Driver
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import manifest

from microstream.checkpoint.memory import MemoryStore
from microstream.checkpoint.pins import pin, pins, unpin
from microstream.checkpoint.retry import Retry
from microstream.errors import CheckpointError, PlanError


def test_pins_are_listed_by_name() -> None:
    driver = Driver(MemoryStore())
    pin(driver.store, "b", driver.head, id="2")
    pin(driver.store, "a", driver.head, id="1")

    found = pins(driver.store)

    assert [(name, one.seq, one.commit_id) for name, one in found] == [
        ("a", 0, driver.head.commit_id),
        ("b", 0, driver.head.commit_id),
    ]


def test_a_name_that_is_taken_stays_as_it_was() -> None:
    driver = Driver(MemoryStore())
    pin(driver.store, "a", driver.head, id="1")
    newer = driver.batch()

    with pytest.raises(CheckpointError, match="pin 'a' is taken: it holds manifest 0"):
        pin(driver.store, "a", newer, id="2")

    assert [one.seq for _, one in pins(driver.store)] == [0]


@given(faults=st.lists(st.sampled_from(Fault), max_size=8))
@settings(deadline=None)
def test_a_pin_is_made_whatever_the_store_answers(faults: list[Fault]) -> None:
    driver = Driver(MemoryStore())

    pin(FaultyStore(driver.store, faults), "a", driver.head, id="1", retry=Retry(attempts=len(faults) + 1))

    assert [name for name, _ in pins(driver.store)] == ["a"]


def test_a_pin_on_nothing_is_refused_and_removed() -> None:
    store = MemoryStore()

    with pytest.raises(CheckpointError, match="no longer retained"):
        pin(store, "a", manifest(), id="1")

    assert store.list("") == []


def test_unpinning_what_is_not_pinned_is_no_error() -> None:
    unpin(MemoryStore(), "a")


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".hidden", "a b", "ä", "x" * 101])
def test_names_that_some_store_cannot_hold_are_refused(name: str) -> None:
    with pytest.raises(PlanError, match="letters, digits"):
        pin(MemoryStore(), name, manifest(), id="1")


def test_a_pin_that_vanishes_while_pins_are_listed_is_left_out() -> None:
    driver = Driver(MemoryStore())
    pin(driver.store, "a", driver.head, id="1")
    pin(driver.store, "b", driver.head, id="2")

    def remove(call: str, key: str) -> None:
        if call == "get" and key == "pins/a":
            unpin(driver.store, "a")

    found = pins(FaultyStore(driver.store, before=remove))

    assert [name for name, _ in found] == ["b"]
