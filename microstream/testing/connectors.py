"""Tests that every source and every sink must pass.

Subclass a suite in a test module and give it a pytest fixture `harness`, a new one for each test:

    class TestKafkaSource(SourceContract):
        @pytest.fixture
        def harness(self, broker): return KafkaSourceHarness(broker)

A record of the suites is one integer `n`. A harness knows how its system is written to; the suites know only
`microstream.connectors.protocol`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

from microstream.connectors.protocol import (
    Confirmed,
    Outgoing,
    Range,
    Read,
    Reader,
    SinkConnector,
    SourceConnector,
    Writer,
)
from microstream.errors import BadRecordError, CheckpointError, ConnectorError, FencedError, OffsetExpiredError

__all__ = [
    "SCHEMA",
    "ExactlyOnceContract",
    "OutputContract",
    "SinkContract",
    "SinkHarness",
    "SourceContract",
    "SourceHarness",
]

SCHEMA = pa.schema([pa.field("n", pa.int64(), nullable=False)])
BATCH_TIME_US = 1_700_000_000_000_000
MAX_AHEAD_US = 86_400_000_000


class SourceHarness(Protocol):
    """One empty source with two partitions, and ways to write to it. Every method returns when it has happened."""

    @property
    def partitions(self) -> tuple[str, str]:
        """The names of the partitions."""
        ...

    def connector(self, *, on_bad_record: str = "fail", on_data_loss: str = "fail") -> SourceConnector:
        """The source, with columns `SCHEMA`."""
        ...

    def append(self, partition: str, values: Sequence[int | None]) -> None:
        """Add committed records; None is a tombstone."""
        ...

    def append_bad(self, partition: str) -> None:
        """Add one committed record that cannot be decoded."""
        ...

    def append_aborted(self, partition: str, values: Sequence[int]) -> None:
        """Add records that take offsets and are never committed; a source without these does nothing."""
        ...

    def append_open(self, partition: str, values: Sequence[int]) -> Callable[[], None]:
        """Add records that are not committed yet; the function returned commits them."""
        ...

    def expire(self, partition: str, before: int) -> None:
        """Lose all records with an offset below `before`."""
        ...


class SourceContract:
    """What the driver relies on in a `Probe` and a `Reader`."""

    def test_a_source_gives_back_what_was_written_range_by_range(self, harness: SourceHarness) -> None:
        first, second = harness.partitions
        harness.append(first, [1, 2, 3])
        harness.append(second, [10, 20])

        read = read_all(harness, (second, first))

        assert read.table["n"].to_pylist() == [10, 20, 1, 2, 3]
        assert [count.rows for count in read.counts] == [2, 3]
        assert read.offsets.tolist() == [0, 1, 0, 1, 2]

    def test_rows_do_not_depend_on_where_ranges_are_cut(self, harness: SourceHarness) -> None:
        first, _ = harness.partitions
        for start in range(0, 40, 10):
            harness.append(first, range(start, start + 10))
            harness.append_aborted(first, [-1, -2])
        whole = read_all(harness, (first,))
        end = end_of(harness, first)

        reader = open_reader(harness)
        steps = [read_range(reader, first, at, min(at + 7, end)) for at in range(0, end, 7)]
        reader.close()

        assert [n for step in steps for n in step.table["n"].to_pylist()] == whole.table["n"].to_pylist()
        assert [o for step in steps for o in step.offsets.tolist()] == whole.offsets.tolist()

    def test_a_range_can_be_read_again_before_and_after_others(self, harness: SourceHarness) -> None:
        first, _ = harness.partitions
        harness.append(first, range(30))
        reader = open_reader(harness)

        reads = [read_range(reader, first, *cut) for cut in [(5, 9), (20, 30), (5, 9), (9, 12), (0, 30), (5, 9)]]
        reader.close()

        assert [numbers(read) for read in reads] == [
            list(range(*cut)) for cut in [(5, 9), (20, 30), (5, 9), (9, 12), (0, 30), (5, 9)]
        ]

    def test_an_empty_range_gives_no_rows_at_once(self, harness: SourceHarness) -> None:
        first, second = harness.partitions
        reader = open_reader(harness)

        read = reader.read(ranges_of({first: (0, 0), second: (0, 0)}), batch_time_us=BATCH_TIME_US)
        reader.close()

        assert read.table.num_rows == 0
        assert read.table.schema == SCHEMA
        assert [count.rows for count in read.counts] == [0, 0]

    def test_a_range_that_ends_in_aborted_records_comes_to_an_end(self, harness: SourceHarness) -> None:
        first, _ = harness.partitions
        harness.append(first, [1])
        harness.append_aborted(first, [2, 3])

        read = read_all(harness, (first,))

        assert numbers(read) == [1]

    def test_records_of_an_open_transaction_are_beyond_the_end(self, harness: SourceHarness) -> None:
        first, _ = harness.partitions
        harness.append(first, [1])
        commit = harness.append_open(first, [2, 3])
        before = read_all(harness, (first,))

        commit()

        assert numbers(before) == [1]
        assert numbers(read_all(harness, (first,))) == [1, 2, 3]

    def test_tombstones_are_counted_and_skipped(self, harness: SourceHarness) -> None:
        first, _ = harness.partitions
        harness.append(first, [1, None, 3])

        read = read_all(harness, (first,))

        assert numbers(read) == [1, 3]
        assert read.offsets.tolist() == [0, 2]
        assert [(count.rows, count.tombstones) for count in read.counts] == [(2, 1)]

    def test_a_bad_record_stops_the_read_and_is_named(self, harness: SourceHarness) -> None:
        first, _ = harness.partitions
        harness.append(first, [1])
        harness.append_bad(first)

        error = raised(BadRecordError, lambda: read_all(harness, (first,)))

        assert (error.partition, error.offset) == (first, 1)

    def test_a_bad_record_can_be_dropped_and_is_counted(self, harness: SourceHarness) -> None:
        first, _ = harness.partitions
        harness.append(first, [1])
        harness.append_bad(first)
        harness.append(first, [3])

        read = read_all(harness, (first,), on_bad_record="drop")

        assert numbers(read) == [1, 3]
        assert [(count.rows, count.bad) for count in read.counts] == [(2, 1)]

    def test_offsets_that_expired_are_an_error_that_says_what_is_left(self, harness: SourceHarness) -> None:
        first, _ = harness.partitions
        harness.append(first, range(10))
        harness.expire(first, 4)
        reader = open_reader(harness)

        error = raised(OffsetExpiredError, lambda: read_range(reader, first, 2, 10))
        reader.close()

        assert (error.partition, error.wanted, error.earliest) == (first, 2, 4)

    def test_offsets_that_expired_can_be_skipped(self, harness: SourceHarness) -> None:
        first, _ = harness.partitions
        harness.append(first, range(10))
        harness.expire(first, 4)
        reader = open_reader(harness, on_data_loss="skip")

        lost, partly, rest = (read_range(reader, first, *cut) for cut in [(0, 2), (2, 6), (6, 10)])
        reader.close()

        assert [numbers(read) for read in (lost, partly, rest)] == [[], [4, 5], [6, 7, 8, 9]]

    def test_bounds_follow_what_is_written_and_what_expires(self, harness: SourceHarness) -> None:
        first, second = harness.partitions
        probe = harness.connector().open_probe()
        before = probe.bounds()

        harness.append(first, range(10))
        harness.expire(first, 4)
        after, ends = probe.bounds(), probe.ends()
        starts = probe.start_offsets("earliest"), probe.start_offsets("latest")
        probe.close()

        assert {name: (each.low, each.end) for name, each in before.items()} == {first: (0, 0), second: (0, 0)}
        assert {name: (each.low, each.end) for name, each in after.items()} == {first: (4, 10), second: (0, 0)}
        assert starts == ({first: 4, second: 0}, {first: 10, second: 0})
        assert ends in (None, {first: 10, second: 0})


class SinkHarness(Protocol):
    """One empty target, and a way to see what a careful reader sees of it."""

    def connector(self) -> SinkConnector:
        """The sink, for rows of `SCHEMA`."""
        ...

    def published(self) -> list[int]:
        """Every `n` that is visible, sorted."""
        ...


class OutputContract:
    """What the driver relies on in every `Writer`, whatever it guarantees."""

    def test_batches_follow_each_other(self, harness: SinkHarness) -> None:
        writer = open_writer(harness)

        for batch in range(4):
            publish(writer, batch, [batch])
        writer.close()

        assert harness.published() == [0, 1, 2, 3]

    def test_a_batch_may_go_in_several_chunks(self, harness: SinkHarness) -> None:
        writer = open_writer(harness)

        answer = publish(writer, 0, [1, 2, 3, 4, 5], chunks=(2, 3, 5))
        writer.close()

        assert harness.published() == [1, 2, 3, 4, 5]
        assert not answer.skipped

    def test_a_batch_without_rows_is_confirmed(self, harness: SinkHarness) -> None:
        writer = open_writer(harness)

        publish(writer, 0, [], chunks=(0,))
        publish(writer, 1, [7])
        writer.close()

        assert harness.published() == [7]


class ExactlyOnceContract(OutputContract):
    """What the driver relies on in the `Writer` of a sink whose batches are published once and as a whole."""

    def test_a_batch_is_published_once_however_often_it_is_tried(self, harness: SinkHarness) -> None:
        writer = open_writer(harness)

        answers = [publish(writer, 0, [1, 2]), publish(writer, 0, [1, 2])]
        writer.close()
        again = open_writer(harness)
        answers.append(publish(again, 0, [1, 2]))
        again.close()

        assert harness.published() == [1, 2]
        assert answers[0].rows == 2
        assert [answer.skipped for answer in answers] == [False, True, True]

    def test_an_old_batch_is_skipped_when_newer_ones_are_committed(self, harness: SinkHarness) -> None:
        writer = open_writer(harness)
        publish(writer, 3, [3])
        publish(writer, 4, [4])
        writer.close()

        late = open_writer(harness)
        answer = publish(late, 3, [3], committed=4)
        late.close()

        assert answer.skipped
        assert harness.published() == [3, 4]

    def test_a_sink_ahead_of_the_checkpoint_publishes_nothing(self, harness: SinkHarness) -> None:
        writer = open_writer(harness)
        publish(writer, 5, [5])
        writer.close()

        late = open_writer(harness)
        raised((ConnectorError, FencedError, CheckpointError), lambda: publish(late, 4, [4], committed=4))
        late.close()

        assert harness.published() == [5]

    def test_a_writer_that_slept_cannot_publish_a_batch_again(self, harness: SinkHarness) -> None:
        zombie = open_writer(harness)
        publish(zombie, 0, [0])
        heir = open_writer(harness)
        publish(heir, 1, [1])

        first = outcome(lambda: publish(zombie, 1, [1]))
        second = outcome(lambda: publish(zombie, 1, [1]))
        zombie.close()
        heir.close()

        assert harness.published() == [0, 1]
        assert isinstance(first, ConnectorError | FencedError | Confirmed)
        assert isinstance(second, ConnectorError | FencedError | Confirmed)


class SinkContract(ExactlyOnceContract):
    """The same for a sink whose lanes publish by themselves, and its `SinkProbe`."""

    def test_lanes_and_sinks_do_not_disturb_each_other(self, harness: SinkHarness) -> None:
        writers = [open_writer(harness, lane=lane, sink=sink) for lane in (0, 1) for sink in ("a", "b")]

        for number, writer in enumerate(writers):
            publish(writer, 0, [number], lane=number // 2, sink="ab"[number % 2])
            writer.close()

        assert harness.published() == [0, 1, 2, 3]

    def test_markers_say_how_far_each_lane_is(self, harness: SinkHarness) -> None:
        writer = open_writer(harness, lane=1)
        publish(writer, 6, [1], lane=1)
        writer.close()
        probe = harness.connector().open_probe()

        probe.check()
        markers = probe.markers("job", "out", [0, 1])
        probe.close()

        assert dict(markers) == {0: None, 1: 6}


def open_reader(harness: SourceHarness, **options: str) -> Reader:
    """A reader of the harness' source."""
    connector = harness.connector(**options)
    return connector.open_reader(name="source", schema=SCHEMA, event_time=None, max_ahead_us=MAX_AHEAD_US)


def ranges_of(cuts: Mapping[str, tuple[int, int]]) -> list[Range]:
    """One range per partition."""
    return [Range(source="source", partition=p, start=start, end=end) for p, (start, end) in cuts.items()]


def read_range(reader: Reader, partition: str, start: int, end: int) -> Read:
    """One range."""
    return reader.read(ranges_of({partition: (start, end)}), batch_time_us=BATCH_TIME_US)


def read_all(harness: SourceHarness, partitions: Sequence[str], **options: str) -> Read:
    """Everything that is stable now, with a reader of its own."""
    probe = harness.connector().open_probe()
    bounds = probe.bounds()
    probe.close()
    reader = open_reader(harness, **options)
    try:
        cuts = {partition: (bounds[partition].low, bounds[partition].end) for partition in partitions}
        return reader.read(ranges_of(cuts), batch_time_us=BATCH_TIME_US)
    finally:
        reader.close()


def end_of(harness: SourceHarness, partition: str) -> int:
    """The last stable offset."""
    probe = harness.connector().open_probe()
    end = probe.bounds()[partition].end
    probe.close()
    return end


def numbers(read: Read) -> list[int]:
    """The rows of `read`."""
    found: Any = read.table["n"].to_pylist()
    return list(found)


def open_writer(harness: SinkHarness, *, lane: int = 0, sink: str = "out") -> Writer:
    """A writer of the harness' sink."""
    return harness.connector().open_writer(job="job", sink=sink, lane=lane, schema=SCHEMA)


def publish(
    writer: Writer,
    batch: int,
    values: Sequence[int],
    *,
    chunks: tuple[int, ...] | None = None,
    committed: int | None = None,
    lane: int = 0,
    sink: str = "out",
) -> Confirmed:
    """Encode and publish; `committed` is the batch itself unless given."""
    rows = writer.encode(pa.table({"n": pa.array(values, pa.int64())}, schema=SCHEMA), event_time=None)
    return writer.publish(
        Outgoing(
            job="job",
            sink=sink,
            lane=lane,
            batch=batch,
            committed=batch if committed is None else committed,
            rows=rows,
            chunks=writer.chunks(rows) if chunks is None else chunks,
        )
    )


def outcome(action: Callable[[], Confirmed]) -> Confirmed | Exception:
    """What `action` returns or raises of microstream's own errors."""
    try:
        return action()
    except (ConnectorError, FencedError) as error:
        return error


def raised(kinds: type[Exception] | tuple[type[Exception], ...], action: Callable[[], object]) -> Any:
    """The error that `action` must raise."""
    try:
        result = action()
    except kinds as error:
        return error
    raise AssertionError(f"nothing was raised, the result is {result!r}")
