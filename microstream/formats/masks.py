"""Masks: one bool per row, true where a row breaks a rule; None stands for "all is well", the usual case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

__all__ = ["Mask", "as_mask", "either", "note"]

Mask: TypeAlias = "npt.NDArray[np.bool_] | None"


def as_mask(flags: Any) -> npt.NDArray[np.bool_]:
    """Arrow flags as numpy's; null is false."""
    filled: npt.NDArray[np.bool_] = pc.fill_null(flags, False).to_numpy(zero_copy_only=False)
    return filled


def either(first: Mask, second: Mask) -> Mask:
    """Rows of one mask or the other."""
    if first is None or second is None:
        return second if first is None else first
    return first | second


def note(broken: dict[int, str], mask: Mask, reason: Callable[[int], str]) -> None:
    """Give the rows of `mask` that have no reason in `broken` yet theirs."""
    if mask is not None:
        for row in np.flatnonzero(mask).tolist():
            broken.setdefault(row, reason(row))
