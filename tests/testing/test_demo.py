from __future__ import annotations

import pandas as pd
import pytest
from confluent_kafka import Consumer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

import microstream as ms
from microstream.testing.demo import TOPIC, BidStream, expected_totals, totals
from microstream.testing.inprocess import InProcessBroker

BIDS = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 1000), st.integers(0, 7_999)), min_size=1, max_size=30).map(
    lambda rows: pd.DataFrame(rows, columns=["auction", "price", "ts"]).assign(
        ts=lambda f: pd.to_datetime(f["ts"], unit="ms")
    )
)
KEYS = ["window_end", "auction"]


@given(bids=BIDS)
def test_pandas_and_the_query_agree_once_all_windows_are_closed(bids: pd.DataFrame) -> None:
    stream = ms.from_pandas(bids, event_time="ts")

    emitted = totals(stream).compute()

    expected = expected_totals(bids, pd.Timestamp("1970-01-01 00:00:08"))
    pd.testing.assert_frame_equal(
        emitted.sort_values(KEYS, ignore_index=True),
        expected.sort_values(KEYS, ignore_index=True),
        check_dtype=False,
    )


@given(bids=BIDS, at=st.integers(0, 4))
def test_a_window_is_expected_exactly_when_the_watermark_has_passed_its_end(bids: pd.DataFrame, at: int) -> None:
    watermark = pd.Timestamp(2 * at, unit="s")

    expected = expected_totals(bids, watermark)

    assert expected["n"].sum() == (bids["ts"] < watermark).sum()


def test_what_the_stream_says_it_sent_has_arrived() -> None:
    with InProcessBroker() as broker:
        broker.create_topic(TOPIC)
        stream = BidStream(broker.bootstrap_servers, seconds=0.3)
        stream.start()
        stream.join()

        consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "count"})
        ends = [consumer.get_watermark_offsets(TopicPartition(TOPIC, number))[1] for number in range(4)]
        consumer.close()

    assert sum(ends) == stream.count == len(stream.bids) > 0


def test_a_closed_broker_makes_no_topics() -> None:
    broker = InProcessBroker()
    broker.close()

    with pytest.raises(RuntimeError, match="closed"):
        broker.create_topic("bids")
