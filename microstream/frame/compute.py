"""Results of several frames at once."""

from __future__ import annotations

import pandas as pd

from microstream.errors import PlanError
from microstream.frame.run import results_of
from microstream.frame.stream import StreamFrame
from microstream.plan.specs import OutputMode

__all__ = ["compute"]


def compute(*frames: StreamFrame, output_mode: OutputMode | None = None) -> tuple[pd.DataFrame, ...]:
    """Run several frames over finite input as one query, in this process; what they share is computed once.

    Parameters
    ----------
    *frames
        At least one.
    output_mode
        Of all frames; see `StreamFrame.compute`. None: each frame's own default.

    Returns
    -------
    tuple of pandas.DataFrame
        One per frame, as `frame.compute()` gives it.

    Raises
    ------
    PlanError
        There is no frame, a source never ends, or a frame has no rows of that mode.
    UserFunctionError
        A function of the plan failed.

    Examples
    --------
    >>> import microstream as ms
    >>> numbers = ms.from_pandas(pd.DataFrame({"n": [1, 2, 3]}))
    >>> small, large = ms.compute(numbers[numbers["n"] < 2], numbers[numbers["n"] >= 2])
    >>> len(small), len(large)
    (1, 2)
    """
    if not frames:
        raise PlanError("compute: give at least one frame, as in ms.compute(a, b).")
    for frame in frames:
        if not isinstance(frame, StreamFrame):
            raise PlanError(f"compute({frame!r:.60}): give streams, as in ms.compute(a, b).")
    return results_of(tuple(frame._node for frame in frames), output_mode)
