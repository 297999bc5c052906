"""What type checkers, and so editors, see of frames and columns: checked by mypy, run by nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_type

import pandas as pd

import microstream as ms
from microstream.frame.columns import Column


def see(frame: ms.StreamFrame) -> None:
    """Names, types and what comes out."""
    assert_type(frame["x"], Column)
    assert_type(frame[["x", "y"]], ms.StreamFrame)
    assert_type(frame[frame["x"] > 1], ms.StreamFrame)
    assert_type(frame["x"].str.upper, Callable[..., Column])
    assert_type(frame["x"].str.upper(), Column)
    assert_type(frame["x"].dt.hour, Column)
    assert_type(frame["x"].list[0], Column)
    assert_type(frame["x"].struct.field("id"), Column)
    assert_type(frame["x"].fillna(0), Column)
    assert_type(frame["x"] > 1, Column)
    assert_type(frame.query("x > 1").dropna().with_watermark("t", "1s"), ms.StreamFrame)
    assert_type(frame.head(), pd.DataFrame)


def see_groups(frame: ms.StreamFrame) -> None:
    """Rows in groups, in windows and without."""
    groups = frame.groupby("x")
    assert_type(groups.agg(n=("y", "size")), ms.StreamFrame)
    assert_type(groups.size(), ms.StreamFrame)
    assert_type(groups["y"].sum(), ms.StreamFrame)
    assert_type(groups.window(ms.tumbling("1min"))[["y"]].mean(), ms.StreamFrame)
    assert_type(groups.window(ms.sliding("1min", every="10s")).size().late, ms.StreamFrame)
    assert_type(frame.agg(n=("y", "size"), best=ms.agg("y", "max")), ms.StreamFrame)
    assert_type(frame.agg(n=("y", "size")).compute(output_mode="complete"), pd.DataFrame)
    assert_type(ms.compute(frame, frame, output_mode="update"), tuple[pd.DataFrame, ...])
    assert_type(frame.to_memory(output_mode="append"), ms.StreamSink)
