from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microstream.connectors.kafka import KafkaSource
from microstream.connectors.kafka.ending import Ending
from microstream.connectors.kafka.moments import moment, moment_us
from microstream.connectors.protocol import Bounds
from microstream.errors import PlanError

NOON = "2026-01-31T12:00:00.000000Z"
SEVERAL = [("ab-1", 3), ("b-0", 0)]


def source(**options: Any) -> KafkaSource:
    return KafkaSource(topics=("a",), bootstrap_servers="k:1", **options)


@pytest.mark.parametrize(
    "written",
    [
        "2026-01-31T12:00",
        "2026-01-31 12:00:00Z",
        "2026-01-31T13:00+01:00",
        datetime(2026, 1, 31, 12),
        datetime(2026, 1, 31, 14, tzinfo=timezone(timedelta(hours=2))),
        pd.Timestamp("2026-01-31 12:00"),
        pd.Timestamp("2026-01-31 07:00", tz="America/New_York"),
    ],
)
def test_a_time_is_the_same_however_it_is_written(written: object) -> None:
    assert moment("start", written, ("earliest", "latest")) == NOON
    assert source(start=written) == source(start=NOON)


@given(time=st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)))
def test_a_moment_keeps_the_time_to_the_microsecond(time: datetime) -> None:
    micros = (time.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

    assert moment_us(moment("start", time, ()), 0) == micros


@pytest.mark.parametrize(
    "wrong", ["yesterday", "now", "newest", "", "30D", "+30D", "-30", "-1M", "--1s", 5, pd.NaT, 1.0]
)
@pytest.mark.parametrize("argument", ["start", "end"])
def test_what_is_no_moment_is_refused_with_all_that_are(argument: str, wrong: object) -> None:
    with pytest.raises(PlanError) as caught:
        source(**{argument: wrong})

    for part in (f"read_kafka({argument}=)", repr(wrong), "'latest'", "2026-01-31T12:00", "-30D"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("start", "end"),
    [("2026-01-02", "2026-01-01"), ("2026-01-01", "2026-01-01"), ("-1h", "-1D"), ("latest", "-1s")],
)
def test_an_end_before_the_start_is_refused(start: str, end: str) -> None:
    with pytest.raises(PlanError, match="the end must be after the start"):
        source(start=start, end=end)


def test_a_source_may_not_end_where_it_begins() -> None:
    with pytest.raises(PlanError, match=r"read_kafka\(end=\)"):
        source(end="earliest")


@pytest.mark.parametrize(
    "wrong", [("a", 3), ("c-0", 1), ("a-x", 1), ("a-0", -1), (0, 1), ("a-0",), "a-0", ("b-0", "1")]
)
def test_a_record_to_skip_that_cannot_be_there_is_refused(wrong: Any) -> None:
    with pytest.raises(PlanError, match="is no record of ab, b"):
        KafkaSource(topics=("ab", "b"), bootstrap_servers="k:1", skip=(*SEVERAL, wrong))


def test_a_record_to_skip_is_named_by_its_partition_or_in_one_topic_by_its_number() -> None:
    assert source(skip=((2, 7),)) == source(skip=(("a-2", 7),))
    assert KafkaSource(topics=("ab", "b"), bootstrap_servers="k:1", skip=tuple(SEVERAL)).skip == tuple(SEVERAL)


class Log:
    """A partition as a broker holds it: record times in offset order."""

    def __init__(self) -> None:
        self.times: list[int] = []

    def first(self, time: int) -> int | None:
        return next((at for at, found in enumerate(self.times) if found >= time), None)


@given(data=st.data())
def test_whatever_comes_when_a_partition_ends_before_its_first_record_of_that_time_and_only_once(
    data: st.DataObject,
) -> None:
    ending, end = Ending(time_us=10), 10
    logs: dict[str, Log] = {}
    said: dict[str, Bounds] = {}

    for now in range(6, 14):
        for name in data.draw(st.lists(st.sampled_from("ab"), max_size=3)):
            logs.setdefault(name, Log()).times.append(data.draw(st.integers(6, now)))
        found = {name: Bounds(low=0, end=len(log.times)) for name, log in logs.items()}
        open_ = ending.open(found)
        ending.learn({n: logs[n].first(end) for n in open_}, {n: len(logs[n].times) for n in open_}, now_us=now)
        before, said = said, ending.cut(found)

        for name, at in said.items():
            assert all(time < end for time in logs[name].times[: at.end])
            assert not (name in before and before[name].finished) or before[name] == at
    assert all(at.finished for at in said.values())
