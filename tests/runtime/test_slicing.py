from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.clock import BEGINNING_US, END_US
from microstream.connectors.protocol import Range
from microstream.runtime.slicing import Limits, PartitionView, adapt_records, choose, relieve, span_bound_us

Guesses = dict[tuple[str, str], int | None]


def view(
    partition: str,
    position: int,
    end: int,
    max_event_time_us: int = BEGINNING_US,
    *,
    record_bytes: float = 1.0,
    max_step: int | None = None,
    takes_batch_time: bool = False,
) -> PartitionView:
    return PartitionView(
        source="s",
        partition=partition,
        position=position,
        end=end,
        max_event_time_us=max_event_time_us,
        bytes_per_record=record_bytes,
        max_step=max_step,
        takes_batch_time=takes_batch_time,
    )


def limits(records: int = 1_000, size: int = 10**9, span_us: int = 100) -> Limits:
    return Limits(max_records=records, max_bytes=size, max_span_us=span_us)


@st.composite
def any_views(draw: st.DrawFn) -> tuple[PartitionView, ...]:
    views = []
    for number in range(draw(st.integers(1, 6))):
        position = draw(st.integers(0, 50))
        views.append(
            view(
                f"p-{number}",
                position,
                position + draw(st.integers(-3, 300)),
                draw(st.one_of(st.just(BEGINNING_US), st.integers(-500, 500))),
                record_bytes=draw(st.sampled_from([0.0, 0.5, 1.0, 7.3, 1000.0])),
            )
        )
    return tuple(views)


any_limits = st.builds(limits, st.integers(1, 400), st.integers(1, 2_000), st.integers(1, 300))


def draw_guesses(data: st.DataObject, views: tuple[PartitionView, ...]) -> Guesses:
    guess = st.one_of(st.none(), st.integers(0, 400))
    return {(v.source, v.partition): data.draw(guess) for v in views}


@settings(deadline=None, max_examples=300)
@given(views=any_views(), bounds=any_limits, data=st.data())
def test_ranges_lie_in_what_is_unread_and_within_the_limits(
    views: tuple[PartitionView, ...], bounds: Limits, data: st.DataObject
) -> None:
    ranges = choose(views, bounds, draw_guesses(data, views))

    at = {v.partition: v for v in views}
    assert len({r.partition for r in ranges}) == len(ranges)
    assert all(at[r.partition].position == r.start < r.end <= at[r.partition].end for r in ranges)
    assert bool(ranges) == any(v.lag for v in views)
    records = [r.end - r.start for r in ranges]
    sizes = [(r.end - r.start) * at[r.partition].bytes_per_record for r in ranges]
    assert sum(records) <= bounds.max_records
    # A batch has at least one record, however large; then that one is the last to be let in.
    largest = max((at[r.partition].bytes_per_record for r in ranges), default=0.0)
    assert sum(sizes) <= max(bounds.max_bytes, largest) or sum(sizes) - largest < bounds.max_bytes


@settings(deadline=None)
@given(views=any_views(), span=st.integers(1, 300), data=st.data())
def test_without_a_backlog_everything_is_taken(
    views: tuple[PartitionView, ...], span: int, data: st.DataObject
) -> None:
    roomy = limits(100 * 300, 100 * 300 * 1000, span)

    ranges = choose(views, roomy, draw_guesses(data, views))

    assert {r.partition: r.end for r in ranges} == {v.partition: v.end for v in views if v.lag}
    assert span_bound_us(views, roomy) == END_US


@settings(deadline=None)
@given(views=any_views(), bounds=any_limits, data=st.data())
def test_a_partition_that_is_too_far_ahead_waits_for_the_slowest(
    views: tuple[PartitionView, ...], bounds: Limits, data: st.DataObject
) -> None:
    bound = span_bound_us(views, bounds)

    read = {r.partition for r in choose(views, bounds, draw_guesses(data, views))}

    capacity = bounds.max_records * bounds.max_bytes
    weights = {v.partition: v.lag * max(bounds.max_bytes, v.bytes_per_record * bounds.max_records) for v in views}
    unread = [v for v in views if v.lag]
    backlog = sum(weights.values()) > capacity + len(views)
    behind = [v for v in unread if backlog and weights[v.partition] > capacity / len(unread) + bounds.max_records]
    slow = [v for v in behind if v.max_event_time_us <= bound]
    for ahead in (v for v in behind if v.max_event_time_us > bound):
        assert ahead.partition not in read or not slow


@settings(deadline=None)
@given(frames=st.lists(st.integers(1, 5), min_size=2, max_size=4), bounds=any_limits)
def test_memory_sources_go_one_frame_at_a_time_and_together(frames: list[int], bounds: Limits) -> None:
    views = [view(f"f-{n}", 0, count, record_bytes=1e9, max_step=1) for n, count in enumerate(frames)]

    ranges = choose(views, bounds, {})

    assert [(r.partition, r.start, r.end) for r in ranges] == [(v.partition, 0, 1) for v in views]


@dataclass
class Topic:
    """Partitions as (event time, record time) per offset, and how far each was read."""

    times: list[list[tuple[int, int]]]
    position: list[int]
    reached: list[int]

    @classmethod
    def of(cls, times: list[list[tuple[int, int]]]) -> Topic:
        return cls(times, [0] * len(times), [BEGINNING_US] * len(times))

    def views(self) -> list[PartitionView]:
        return [view(f"p-{n}", self.position[n], len(times), self.reached[n]) for n, times in enumerate(self.times)]

    def guesses(self, time_us: int) -> Guesses:
        """First offset whose record time is at or after `time_us`, as brokers tell: None beyond the last."""
        found: Guesses = {}
        for n, times in enumerate(self.times):
            latest = list(accumulate((record for _, record in times), max))
            at = bisect_left(latest, time_us)
            found["s", f"p-{n}"] = at if at < len(times) else None
        return found

    def read(self, ranges: tuple[Range, ...]) -> None:
        for piece in ranges:
            n = int(piece.partition.removeprefix("p-"))
            assert piece.start == self.position[n]
            self.position[n] = piece.end
            events = [event for event, _ in self.times[n][piece.start : piece.end]]
            self.reached[n] = max(self.reached[n], *events)

    @property
    def is_drained(self) -> bool:
        return all(at == len(times) for at, times in zip(self.position, self.times, strict=True))


def gaps(most: int) -> st.SearchStrategy[list[int]]:
    """Ascending times with steps of up to `most`, now and then a long silence."""
    step = st.one_of(st.integers(0, 20), st.integers(0, most))
    return st.lists(step, max_size=60).map(lambda steps: list(accumulate(steps)))


@settings(deadline=None)
@given(
    times=st.lists(gaps(5_000), min_size=1, max_size=4),
    start=st.lists(st.integers(0, 2_000), min_size=4, max_size=4),
    records=st.integers(4, 30),
    span=st.integers(1, 400),
)
def test_a_backlog_advances_together_where_record_time_is_event_time(
    times: list[list[int]], start: list[int], records: int, span: int
) -> None:
    topic = Topic.of([[(t + start[n], t + start[n]) for t in steps] for n, steps in enumerate(times)])
    bounds = limits(records, span_us=span)
    batches = 0

    while not topic.is_drained:
        views = topic.views()
        bound = span_bound_us(views, bounds)
        ranges = choose(views, bounds, topic.guesses(bound) if bound != END_US else {})
        assert ranges, "an empty slice although there is something to read"
        check_nobody_runs_ahead(topic, ranges, bound, records)
        topic.read(ranges)
        batches += 1

    assert batches <= sum(map(len, times))


def check_nobody_runs_ahead(topic: Topic, ranges: tuple[Range, ...], bound: int, records: int) -> None:
    """Of what a batch cannot drain, only the slowest is read beyond the bound, and only if nothing lies below."""
    lags = {f"p-{n}": len(t) - p for n, (t, p) in enumerate(zip(topic.times, topic.position, strict=True))}
    unread = [p for p, lag in lags.items() if lag]
    share = records // len(unread)
    behind = {p for p in unread if lags[p] > share} if sum(lags.values()) > records else set()
    nexts = {p: topic.times[int(p[2:])][topic.position[int(p[2:])]][0] for p in behind}
    for piece in (r for r in ranges if r.partition in behind):
        n = int(piece.partition[2:])
        last = topic.times[n][piece.end - 1][0]
        if last >= bound:
            assert all(time >= bound for time in nexts.values()), "it went ahead although others had something below"
            assert topic.reached[n] == min(topic.reached[int(p[2:])] for p in behind)


@settings(deadline=None)
@given(data=st.data(), records=st.integers(1, 30), span=st.integers(1, 400))
def test_a_backlog_is_drained_whatever_record_times_say(data: st.DataObject, records: int, span: int) -> None:
    anything = st.tuples(st.integers(-1_000, 1_000), st.integers(-1_000, 1_000))
    topic = Topic.of(data.draw(st.lists(st.lists(anything, max_size=40), min_size=1, max_size=4)))
    bounds = limits(records, span_us=span)

    for _ in range(sum(map(len, topic.times))):
        views = topic.views()
        topic.read(choose(views, bounds, topic.guesses(span_bound_us(views, bounds))))

    assert topic.is_drained


def test_a_live_partition_does_not_keep_one_with_a_backlog_before_its_gap_for_ever() -> None:
    backlog = view("backlog", 0, 500, max_event_time_us=0)
    live = view("live", 7, 9, max_event_time_us=1_000_000)
    beyond: Guesses = {("s", "backlog"): 0, ("s", "live"): 7}

    ranges = choose([backlog, live], limits(100), beyond)

    assert {r.partition for r in ranges} == {"backlog", "live"}


def test_large_records_of_one_source_do_not_hide_behind_small_ones_of_another() -> None:
    small = view("small", 0, 100_000, record_bytes=1.0)
    large = view("large", 0, 1_000, record_bytes=1_000_000.0)

    ranges = choose([small, large], limits(1_000_000, 500_000_000), {})

    size = sum((r.end - r.start) * (1 if r.partition == "small" else 1_000_000) for r in ranges)
    assert size <= 500_000_000


def test_a_slice_goes_up_to_the_first_record_beyond_the_bound() -> None:
    views = [view("slow", 0, 500, 1_000), view("fast", 0, 500, 1_050)]

    ranges = choose(views, limits(300), {("s", "slow"): 40, ("s", "fast"): 20})

    assert span_bound_us(views, limits(300)) == 1_100
    assert [(r.partition, r.start, r.end) for r in ranges] == [("slow", 0, 40), ("fast", 0, 20)]


def test_what_short_partitions_leave_over_goes_to_long_ones() -> None:
    views = [view("long", 0, 1_000), view("short", 0, 10)]

    ranges = choose(views, limits(100), {})

    assert [(r.partition, r.end) for r in ranges] == [("long", 90), ("short", 10)]


@given(
    limit=st.integers(1, 10**7),
    rows=st.integers(0, 10**7),
    seconds=st.floats(0, 100),
    target_s=st.floats(0.01, 10),
    most=st.integers(1, 10**7),
)
def test_a_full_batch_moves_the_limit_toward_the_target_by_a_factor_of_two_at_most(
    limit: int, rows: int, seconds: float, target_s: float, most: int
) -> None:
    limit = min(limit, most)

    following = adapt_records(limit, rows, seconds, target_s, most)

    assert 1 <= following <= most
    if rows < 0.8 * limit:
        assert following == limit
    elif min(limit, following) > 10_000:
        assert limit / 2 - 1 <= following <= 2 * limit + 1
        assert (following >= limit) == (seconds <= target_s or following == limit)


def test_small_slow_batches_do_not_shrink_for_ever() -> None:
    limit = 5_000
    for _ in range(20):
        fixed_cost_s, per_record_s = 0.2, 1e-6
        limit = adapt_records(limit, limit, fixed_cost_s + limit * per_record_s, 1.0, 2_000_000)

    assert limit == pytest.approx(800_000, rel=0.01)


@settings(deadline=None)
@given(records=st.integers(1, 10**7), fractions=st.tuples(st.floats(0, 2), st.floats(0, 2)))
def test_full_workers_get_smaller_batches_but_never_none(records: int, fractions: tuple[float, float]) -> None:
    emptier, fuller = sorted(fractions)

    assert 1 <= relieve(records, fuller) <= relieve(records, emptier) <= records


def test_a_partition_by_processing_time_holds_no_other_back_and_is_not_held() -> None:
    slow = view("slow", 0, 5_000, 0)
    clock = view("clock", 0, 5_000, -10_000, takes_batch_time=True)
    ahead = view("ahead", 0, 5_000, 5_000)
    guesses: Guesses = {("s", "slow"): None, ("s", "clock"): 0, ("s", "ahead"): 0}

    bound = span_bound_us((slow, clock, ahead), limits())
    read = {r.partition: r.end - r.start for r in choose((slow, clock, ahead), limits(), guesses)}

    assert bound == 100
    assert read == {"slow": 500, "clock": 500}
    assert span_bound_us((clock,), limits()) == END_US
    assert [r.end for r in choose((clock,), limits(), {})] == [1_000]
