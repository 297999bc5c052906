from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.clock import BEGINNING_US, END_US
from microstream.errors import PlanError
from microstream.plan.windows import Sliding

FAR = 10**15


@st.composite
def sliding(draw: st.DrawFn) -> Sliding:
    size = draw(st.integers(1, 50))
    return Sliding(size_us=size, every_us=draw(st.integers(1, size)), offset_us=draw(st.integers(-99, 99)))


@settings(deadline=None)
@given(window=sliding(), time=st.integers(-FAR, FAR))
def test_a_pane_lies_in_exactly_the_windows_that_hold_its_times(window: Sliding, time: int) -> None:
    panes = window.pane_of(np.array([time]))

    first, last = int(window.first_windows(panes)[0]), int(window.last_windows(panes)[0])

    for number in range(first - 2, last + 3):
        start = number * window.every_us + window.offset_us
        assert (start <= time < start + window.size_us) == (first <= number <= last)
        assert window.window_ends_us(np.array([number]))[0] == start + window.size_us


@settings(deadline=None)
@given(window=sliding(), time=st.integers(-FAR, FAR))
def test_panes_are_half_open_side_by_side_and_windows_are_made_of_them(window: Sliding, time: int) -> None:
    pane = int(window.pane_of(np.array([time]))[0])

    start, end = window.pane_end_us(pane - 1), window.pane_end_us(pane)

    assert start <= time < end
    assert window.pane_ends_us(np.array([pane])).tolist() == [end]
    window_first = window.per_step * window.last_windows(np.array([pane]))[0]
    assert window.pane_end_us(window_first + window.panes - 1) - window.pane_end_us(window_first - 1) == window.size_us


@settings(deadline=None)
@given(window=sliding(), watermark=st.integers(-FAR, FAR))
def test_what_a_watermark_has_passed_is_told_in_windows_and_panes(window: Sliding, watermark: int) -> None:
    closed, full = window.closed_through(watermark), window.full_panes(watermark)

    ends = window.window_ends_us(np.array([closed, closed + 1]))
    assert ends[0] <= watermark < ends[1]
    assert window.pane_end_us(full - 1) <= watermark < window.pane_end_us(full)
    gone = window.pane_of(np.array([window.expired_us(watermark) - 1, window.expired_us(watermark)]))
    assert window.last_windows(gone).tolist() == [closed, closed + 1]


@settings(deadline=None)
@given(window=sliding())
def test_before_the_first_watermark_nothing_has_passed_and_at_the_end_everything(window: Sliding) -> None:
    for time in (-FAR, 0, FAR):
        pane = window.pane_of(np.array([time]))
        assert window.closed_through(BEGINNING_US) < window.first_windows(pane)[0]
        assert window.full_panes(BEGINNING_US) < pane[0] < window.full_panes(END_US)
        assert window.last_windows(pane)[0] < window.closed_through(END_US)
        assert window.expired_us(BEGINNING_US) < time < window.expired_us(END_US)


@settings(deadline=None)
@given(window=sliding(), time=st.integers(-FAR, FAR))
def test_a_run_waits_from_the_first_window_of_its_first_pane_to_the_last_of_its_last(
    window: Sliding, time: int
) -> None:
    pane = window.pane_of(np.array([time]))
    end = window.pane_end_us(int(pane[0]))

    first, last = window.waiting_us(end, end)

    assert (first, last) == (
        window.window_ends_us(window.first_windows(pane))[0],
        window.window_ends_us(window.last_windows(pane))[0],
    )


@pytest.mark.parametrize(
    ("size", "every", "message"), [(0, 1, "at least 1 us"), (5, 0, "at least"), (5, 6, "every <=")]
)
def test_windows_that_cannot_be_are_refused(size: int, every: int, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Sliding(size_us=size, every_us=every)
