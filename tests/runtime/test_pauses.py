"""What was there before a query is not looked at by each full collection, and nothing stays for good."""

import gc
import sys
import weakref
from collections.abc import Iterator

import pytest

from microstream.runtime.pauses import short_pauses

pytestmark = pytest.mark.skipif(sys.version_info >= (3, 14), reason="no full collections there")


class Knot:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_what_was_there_at_the_first_full_collection_is_passed_over_by_later_ones() -> None:
    knot = Knot()
    gone = weakref.ref(knot)
    with short_pauses():
        gc.collect()
        assert gc.get_freeze_count() > 0
        del knot
        gc.collect()
        assert gone() is not None
    gc.collect()
    assert gone() is None


def test_what_is_made_later_is_collected_as_ever() -> None:
    with short_pauses():
        gc.collect()
        knot = Knot()
        gone = weakref.ref(knot)
        gc.collect()
        del knot
        gc.collect()
        assert gone() is None


def test_everything_is_looked_at_from_time_to_time() -> None:
    knot = Knot()
    gone = weakref.ref(knot)
    with short_pauses(look_at_all_s=0):
        gc.collect()
        del knot
        gc.collect()
        assert gone() is None
        assert gc.get_freeze_count() > 0


def test_the_last_query_of_a_process_gives_back_what_all_froze() -> None:
    with short_pauses():
        with short_pauses():
            gc.collect()
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


def test_a_program_that_freezes_by_itself_keeps_its_objects_frozen() -> None:
    gc.freeze()
    frozen = gc.get_freeze_count()
    with short_pauses():
        gc.collect()
    # Frozen objects die as others do, when nothing refers to them; none were given back.
    assert 0.9 * frozen < gc.get_freeze_count() <= frozen
