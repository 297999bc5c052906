"""Does a plan give the same rows however its input is cut into batches? A check for plans with functions in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pandas as pd

from microstream.frame.sources import from_pandas
from microstream.frame.stream import StreamFrame
from microstream.plan.modes import default_mode

__all__ = ["check_cuts"]

FLOAT_TOLERANCE = 1e-9
"""Float sums are added in another order for another cut."""


def check_cuts(
    build: Callable[[StreamFrame], StreamFrame],
    df: pd.DataFrame,
    *,
    event_time: str | None = None,
    watermark: str | None = None,
) -> None:
    """Raise AssertionError unless `build` gives the same rows for every cut of `df` that is tried.

    A function that looks across the rows it is given, such as `lambda frame: frame["x"].mean()`, silently works on one
    batch at a time. All rows as one batch are compared with halves, with cuts after each of the first rows, with one
    row per batch, and with an empty batch among others.

    Parameters
    ----------
    build
        From the stream of `df` to the frame to check. Of an aggregate without a window the whole result is compared.
    df
        Input, in the order in which it is to come; a few dozen rows are enough, fewer than two show nothing.
    event_time, watermark
        As for `ms.from_pandas`. The watermark must cover the disorder of `df`, or which rows are late depends on cuts.

    Examples
    --------
    >>> import microstream as ms
    >>> df = pd.DataFrame({"x": [1.0, 2.0, 6.0]})
    >>> check_cuts(lambda frame: frame.assign(twice=ms.col("x") * 2), df)
    >>> check_cuts(lambda frame: frame.assign(share=lambda f: f["x"] / f["x"].sum()), df)
    Traceback (most recent call last):
    ...
    AssertionError: the result depends on how batches are cut. ...
    """
    whole = _result(build, [df], event_time, watermark)
    for parts in _cuts(df):
        found = _result(build, parts, event_time, watermark)
        try:
            pd.testing.assert_frame_equal(found, whole, rtol=FLOAT_TOLERANCE)
        except AssertionError as difference:
            sizes = " + ".join(str(len(part)) for part in parts)
            raise AssertionError(
                f"the result depends on how batches are cut. As one batch of {len(df)} rows:\n{whole}\nAs batches of "
                f"{sizes} rows:\n{found}\nA function that looks across rows sees one batch only: use a window, or "
                f"compute row by row.\n{difference}"
            ) from None


def _cuts(df: pd.DataFrame) -> Iterator[Sequence[pd.DataFrame]]:
    """The coarsest first: the fewer batches, the easier to see what differs."""
    middle = len(df) // 2
    for at in dict.fromkeys([middle, *range(1, min(len(df), 4))]):
        if 0 < at < len(df):
            yield [df.iloc[:at], df.iloc[at:]]
    if len(df) > 2:
        yield [df.iloc[at : at + 1] for at in range(len(df))]
    if len(df) > 3:
        yield [df.iloc[:middle], df.iloc[middle:middle], df.iloc[middle : middle + 1], df.iloc[middle + 1 :]]


def _result(
    build: Callable[[StreamFrame], StreamFrame],
    parts: Sequence[pd.DataFrame],
    event_time: str | None,
    watermark: str | None,
) -> pd.DataFrame:
    frame = build(from_pandas(list(parts), event_time=event_time, watermark=watermark))
    # Which rows changed in a batch depends on the batch; what they come to must not.
    return frame.compute(output_mode="complete" if default_mode(frame._node) == "update" else None)
