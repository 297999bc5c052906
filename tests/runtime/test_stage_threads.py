"""Stages that are called: nearest to the sink first, nothing that the driver gave up, as many at a time as threads."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from microstream.runtime.engine import ExchangeLostError
from microstream.runtime.stage_threads import ClosingError, StageThreads
from microstream.runtime.task import Attempt, StageTask

PATIENCE_S = 20.0
ATTEMPT = Attempt(job="j", epoch=3, batch=4, number=0, commit_id="c", base="b", batch_time_us=0)
TASK = StageTask(
    attempt=ATTEMPT,
    level=0,
    lane=0,
    lanes=1,
    ranges=(),
    upstream=(),
    late=(),
    closed_before=(),
    closing=(),
    base_at=None,
    seal_after=1,
)


def task(batch: int, number: int, level: int = 0) -> StageTask:
    return replace(TASK, attempt=replace(ATTEMPT, batch=batch, number=number), level=level)


@contextmanager
def closing(stages: StageThreads[str]) -> Iterator[StageThreads[str]]:
    try:
        yield stages
    finally:
        stages.close()


class Busy:
    """Runs tasks and remembers which, once the first may end."""

    def __init__(self) -> None:
        self.began, self.may_end = threading.Event(), threading.Event()
        self.ran: list[tuple[int, int, int]] = []

    def __call__(self, given: StageTask) -> str:
        self.began.set()
        assert self.may_end.wait(PATIENCE_S)
        self.ran.append((given.attempt.batch, given.attempt.number, given.level))
        return f"batch {given.attempt.batch}"


def test_what_waits_runs_nearest_to_the_sink_first_and_in_order_else() -> None:
    busy = Busy()
    with closing(StageThreads(1, busy)) as stages:
        first = stages.submit(task(0, 0))
        assert busy.began.wait(PATIENCE_S)
        rest = [stages.submit(one) for one in (task(1, 1), task(2, 2), task(0, 0, level=1), task(0, 0, level=2))]
        busy.may_end.set()

        assert [answer.result(PATIENCE_S) for answer in (first, *rest)] == [
            "batch 0",
            "batch 1",
            "batch 2",
            "batch 0",
            "batch 0",
        ]

    assert busy.ran == [(0, 0, 0), (0, 0, 2), (0, 0, 1), (1, 1, 0), (2, 2, 0)]


def test_an_attempt_that_was_given_up_never_starts() -> None:
    busy = Busy()
    with closing(StageThreads(1, busy)) as stages:
        running = stages.submit(task(4, 0))
        assert busy.began.wait(PATIENCE_S)
        again, follower = stages.submit(task(4, 1)), stages.submit(task(5, 2))
        newest, apart = stages.submit(task(4, 3)), stages.submit(task(3, 0))
        busy.may_end.set()

        for answer in (again, follower):
            with pytest.raises(ExchangeLostError, match="out of date"):
                answer.result(PATIENCE_S)
        # What runs already is finished, and an older batch does not stand on this one.
        assert [answer.result(PATIENCE_S) for answer in (running, newest, apart)] == ["batch 4", "batch 4", "batch 3"]

    assert [which[:2] for which in busy.ran] == [(4, 0), (4, 3), (3, 0)]


def test_as_many_run_at_a_time_as_there_are_threads() -> None:
    both = threading.Barrier(2)

    def meet(given: StageTask) -> str:
        return str(both.wait(PATIENCE_S) >= 0)

    with closing(StageThreads(2, meet)) as stages:
        answers = [stages.submit(task(0, 0)), stages.submit(task(0, 0, level=1))]

        assert [answer.result(PATIENCE_S) for answer in answers] == ["True", "True"]


@pytest.mark.parametrize("error", [ValueError("no"), MemoryError(), SystemExit(3)], ids=lambda e: type(e).__name__)
def test_whatever_is_raised_belongs_to_who_asked_and_the_thread_goes_on(error: BaseException) -> None:
    fails: list[Callable[[], None]] = [lambda: (_ for _ in ()).throw(error)]

    def run(given: StageTask) -> str:
        if fails:
            fails.pop()()
        return "done"

    with closing(StageThreads(1, run)) as stages:
        with pytest.raises(type(error)):
            stages.submit(task(0, 0)).result(PATIENCE_S)
        assert stages.submit(task(0, 1)).result(PATIENCE_S) == "done"


def test_after_closing_nothing_starts() -> None:
    busy = Busy()
    stages = StageThreads(1, busy)
    running = stages.submit(task(0, 0))
    assert busy.began.wait(PATIENCE_S)
    waiting = stages.submit(task(0, 0, level=1))

    stages.close()

    for answer in (waiting, stages.submit(task(0, 1))):
        with pytest.raises(ClosingError, match="closing"):
            answer.result(PATIENCE_S)
    busy.may_end.set()
    assert running.result(PATIENCE_S) == "batch 0"
    assert busy.ran == [(0, 0, 0)]
