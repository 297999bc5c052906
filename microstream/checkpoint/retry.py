"""Try a step again while the store does not answer. Waiting is the caller's: the protocol knows no clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from microstream.checkpoint.store import StoreError

__all__ = ["PATIENT", "Retry"]

T = TypeVar("T")


def at_once(attempt: int) -> None:
    """No pause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Up to `attempts` tries of each step (at least 1); `pause(n)` is called before the n-th further try."""

    attempts: int = 5
    pause: Callable[[int], None] = at_once

    def __call__(self, what: str, step: Callable[[], T]) -> T:
        """The answer of `step`. Raises StoreError, the outcome being unknown, when every try did."""
        problem: StoreError | None = None
        for attempt in range(self.attempts):
            if attempt:
                self.pause(attempt)
            try:
                return step()
            except StoreError as refused:
                problem = refused
        raise StoreError(f"{what} failed {self.attempts} times. The last answer: {problem}") from problem


PATIENT = Retry()
"""Five tries, one right after the other."""
