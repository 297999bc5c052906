from __future__ import annotations

import pytest

from microstream.checkpoint.retry import Retry
from microstream.checkpoint.store import NotFoundError, StoreError


def test_the_first_answer_is_taken() -> None:
    answers = iter([StoreError("503"), StoreError("504"), None])
    pauses: list[int] = []

    def step() -> str:
        problem = next(answers)
        if problem:
            raise problem
        return "done"

    assert Retry(attempts=3, pause=pauses.append)("reading", step) == "done"
    assert pauses == [1, 2]


def test_the_last_refusal_is_told_as_an_unknown_outcome() -> None:
    def step() -> None:
        raise NotFoundError("absent")

    with pytest.raises(StoreError, match=r"reading failed 2 times. The last answer: absent") as raised:
        Retry(attempts=2)("reading", step)

    assert type(raised.value) is StoreError


def test_other_errors_pass_at_once() -> None:
    tries: list[int] = []

    def step() -> None:
        tries.append(1)
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        Retry(attempts=5)("reading", step)

    assert len(tries) == 1
