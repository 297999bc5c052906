from __future__ import annotations

from datetime import timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.clock import BEGINNING_US, END_US, SystemClock, duration_us, iso, minus
from microstream.errors import PlanError

times = st.integers(BEGINNING_US, END_US)


@settings(deadline=None)
@given(time_us=times, earlier_us=times, delay_us=st.integers(0, END_US))
def test_a_delay_keeps_the_order_of_times_and_their_two_ends(time_us: int, earlier_us: int, delay_us: int) -> None:
    first, second = sorted((earlier_us, time_us))

    assert BEGINNING_US <= minus(first, delay_us) <= minus(second, delay_us) <= END_US
    assert minus(BEGINNING_US, delay_us) == BEGINNING_US
    assert minus(END_US, delay_us) == END_US
    if BEGINNING_US + delay_us <= time_us < END_US:
        assert minus(time_us, delay_us) in (time_us - delay_us, BEGINNING_US)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10s", 10_000_000), ("1min", 60_000_000), ("1D", 86_400_000_000), ("0s", 0), ("-0s", 0), ("00:00:02", 2_000_000)],
)
def test_durations_are_read_as_pandas_does(text: str, expected: int) -> None:
    assert duration_us(text, argument="watermark") == expected


def test_a_timedelta_is_a_duration() -> None:
    assert duration_us(timedelta(seconds=3), argument="every") == 3_000_000
    assert duration_us(pd.Timedelta("1h"), argument="every") == 3_600_000_000


@pytest.mark.parametrize("wrong", ["10", "1.5", "ten", "", "1 month", "1MS", "1M", 10, 1.5, None, "NaT", "-1s"])
def test_what_is_no_duration_is_refused_with_the_name_of_the_argument(wrong: Any) -> None:
    with pytest.raises(PlanError, match=r"watermark=.*10s"):
        duration_us(wrong, argument="watermark")


@settings(deadline=None)
@given(time_us=st.integers(-(10**15), 4 * 10**15))
def test_times_are_shown_in_utc_to_the_microsecond(time_us: int) -> None:
    shown = iso(time_us)

    assert shown.endswith("Z")
    assert pd.Timestamp(shown).tz_localize(None) == pd.Timestamp(time_us, unit="us")


def test_the_ends_of_time_have_names() -> None:
    assert (iso(BEGINNING_US), iso(END_US)) == ("-infinity", "+infinity")


def test_the_system_clock_counts_microseconds_since_1970() -> None:
    before = pd.Timestamp.now("UTC")

    now = pd.Timestamp(SystemClock().now_us(), unit="us", tz="UTC")

    assert before.floor("us") <= now <= pd.Timestamp.now("UTC")
