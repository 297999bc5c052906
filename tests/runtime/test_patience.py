from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.errors import UnreachableError
from microstream.runtime.patience import patiently


@dataclass
class Away:
    """A broker that does not answer `failures` times; every try takes `step_us` of its clock."""

    failures: int
    step_us: int = 1_000
    tries: int = 0
    time_us: int = 0
    said: list[str] = field(default_factory=list)

    def now_us(self) -> int:
        return self.time_us

    async def ask(self) -> str:
        self.tries += 1
        self.time_us += self.step_us
        if self.tries <= self.failures:
            raise UnreachableError(f"try {self.tries}")
        return "here"


def wait_for(away: Away, bound_us: int) -> str:
    async def run() -> str:
        return await patiently(
            away.ask, away=UnreachableError, bound_us=bound_us, clock=away, jitter_s=float, announce=away.said.append
        )

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes in `Away`, not here."""

    async def at_once(seconds: float) -> None:
        assert 0.1 <= seconds <= 5.0

    monkeypatch.setattr("microstream.runtime.patience.asyncio.sleep", at_once)


@settings(deadline=None)
@given(failures=st.integers(0, 20))
def test_what_is_away_for_a_while_is_waited_for_and_each_wait_is_announced(failures: int) -> None:
    away = Away(failures)

    assert wait_for(away, bound_us=10**9) == "here"

    waits = [f"waiting: try {n + 1}" for n in range(failures)]
    assert away.said == [*waits, *[""] * bool(failures)]


@settings(deadline=None)
@given(bound=st.integers(1, 30))
def test_after_the_bound_no_new_try_starts_and_the_last_error_is_raised(bound: int) -> None:
    away = Away(failures=100)

    with pytest.raises(UnreachableError, match=f"try {bound}$"):
        wait_for(away, bound_us=bound * away.step_us)

    assert away.tries == bound


def test_an_error_that_will_not_pass_is_raised_at_once() -> None:
    async def broken() -> str:
        raise ValueError("no")

    away = Away(failures=0)

    with pytest.raises(ValueError, match="no"):
        asyncio.run(
            patiently(
                broken, away=UnreachableError, bound_us=10**9, clock=away, jitter_s=float, announce=away.said.append
            )
        )
    assert away.said == []
