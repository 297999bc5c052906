from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from microstream.runtime.engine import ExchangeLostError, Fetch
from microstream.runtime.shelf import Shelf
from microstream.runtime.task import Attempt

ATTEMPT = Attempt(job="j", epoch=1, batch=4, number=0, commit_id="c", base="b", batch_time_us=0)
FETCH = Fetch(job="j", epoch=1, batch=4, attempt=0, level=0, lane=2, execution="first", operator="totals", target=1)


def tables(value: int) -> dict[str, list[pa.Table]]:
    return {"totals": [pa.table({"x": [value]}), pa.table({"x": [value + 1]})]}


def shelf() -> Shelf:
    filled = Shelf("a")
    filled.put(ATTEMPT, 0, 2, "first", tables(10))
    return filled


def test_an_element_is_there_for_every_run_of_its_consumer() -> None:
    held = shelf()

    assert held.take(FETCH).to_pydict() == held.take(FETCH).to_pydict() == {"x": [11]}
    assert held.take(replace(FETCH, target=0)).to_pydict() == {"x": [10]}


def test_a_second_run_replaces_the_first_whose_consumers_fail() -> None:
    held = shelf()

    held.put(ATTEMPT, 0, 2, "second", tables(50))

    assert held.take(replace(FETCH, execution="second")).to_pydict() == {"x": [51]}
    with pytest.raises(ExchangeLostError, match="batch 4 attempt 0: output of level 0 lane 2 on a is of another run"):
        held.take(FETCH)


@pytest.mark.parametrize("other", [{"batch": 3}, {"attempt": 1}, {"level": 1}, {"lane": 0}])
def test_what_was_never_put_is_gone(other: dict[str, int]) -> None:
    with pytest.raises(ExchangeLostError, match="is gone"):
        shelf().take(replace(FETCH, **other))


def test_tables_stay_while_their_batch_may_be_in_flight() -> None:
    held = shelf()

    held.put(replace(ATTEMPT, batch=5), 0, 2, "next", tables(0))
    held.take(FETCH)
    held.put(replace(ATTEMPT, batch=6), 0, 2, "after next", tables(0))

    with pytest.raises(ExchangeLostError, match="is gone"):
        held.take(FETCH)
