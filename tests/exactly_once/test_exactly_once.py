"""Kafka to Kafka through two exchanges, with real processes and a real broker, whatever is killed meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from bids import PARTITIONS, Bids
from chaos import FULL, Scale, Site, Supervised
from processes import BareCluster, Program, until
from results import Results, assert_conserved, assert_same, expected, published

from microstream.testing.kafka import Broker

pytestmark = [pytest.mark.broker, pytest.mark.timeout(3_600)]


@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize("slices", ["large", "tiny"])
def test_results_equal_duckdb_for_any_lanes_and_slices(
    broker: Broker, scale: Scale, filled_topic: str, tmp_path: Path, lanes: int, slices: str
) -> None:
    records = scale.bids.count // 50 if slices == "tiny" else scale.bids.count
    options = ("--lanes", str(lanes), "--max-records", str(records), "--trigger", "available_now")
    site = Site.create(broker, tmp_path, *options, topic=filled_topic)

    run = Program(site.arguments, tmp_path / "run.log")
    until(lambda: not run.is_running, "the query to end")

    assert run.exit_code == 0, run.last_words()
    assert_same(published_at(site), expected(scale.bids))


def test_killed_drivers_lose_and_repeat_nothing(broker: Broker, scale: Scale, tmp_path: Path) -> None:
    site = site_of(broker, scale, tmp_path)

    with Supervised(site, scale.bids, scale.seed) as query:
        query.strike([kill_driver] * scale.driver_kills)
        query.finish()

    assert_same(published_at(site), expected(scale.bids))


def test_killed_workers_lose_and_repeat_nothing(broker: Broker, scale: Scale, tmp_path: Path) -> None:
    site = site_of(broker, scale, tmp_path)

    with Supervised(site, scale.bids, scale.seed) as query:
        query.strike([kill_worker] * scale.worker_kills)
        query.finish()

    assert_same(published_at(site), expected(scale.bids))


def test_a_cluster_that_the_user_brings_may_lose_workers_and_drivers(
    broker: Broker, scale: Scale, tmp_path: Path
) -> None:
    with BareCluster(tmp_path, workers=2) as cluster:
        site = site_of(broker, scale, tmp_path, "--cluster", cluster.address)

        def replace_worker(query: Supervised) -> None:
            cluster.replace_worker(query.random.randrange(2))

        with Supervised(site, scale.bids, scale.seed) as query:
            query.strike([replace_worker, kill_driver, *[replace_worker] * (scale.worker_kills - 1)])
            query.finish()

    assert_same(published_at(site), expected(scale.bids))


# One kill of the broker under a running query is in tests/bad_input; this one restarts it several times.
@pytest.mark.skipif(not FULL, reason="takes a minute and needs the machine to itself: set MICROSTREAM_CHAOS=full")
def test_a_restarted_broker_is_waited_for(broker: Broker, scale: Scale, tmp_path: Path) -> None:
    if not broker.started_here:
        pytest.skip("the broker of MICROSTREAM_TEST_KAFKA cannot be restarted from here")
    site = site_of(broker, scale, tmp_path)

    with Supervised(site, scale.bids, scale.seed) as query:
        query.strike([restart_broker, crash_broker, *[restart_broker] * (scale.broker_restarts - 2)])
        query.finish()

    assert_same(published_at(site), expected(scale.bids))


def test_of_two_drivers_one_goes_on(broker: Broker, scale: Scale, tmp_path: Path) -> None:
    site = site_of(broker, scale, tmp_path)
    blows = [start_a_rival, take_over, take_over_from_a_zombie, take_over, start_a_rival]

    with Supervised(site, scale.bids, scale.seed) as query:
        query.strike(blows[: scale.second_drivers])
        query.finish()

    assert_same(published_at(site), expected(scale.bids))


def test_a_function_that_draws_keys_at_random_counts_each_bid_once(
    broker: Broker, scale: Scale, tmp_path: Path
) -> None:
    site = site_of(broker, scale, tmp_path, "--nondeterministic")

    with Supervised(site, scale.bids, scale.seed) as query:
        query.strike([kill_driver, kill_worker] * (-(-scale.driver_kills // 2)))
        query.finish()

    assert_conserved(published(broker, site.out, site.out2, site.out3, key="lot"), scale.bids)


@pytest.mark.skipif(not FULL, reason="takes half an hour: set MICROSTREAM_CHAOS=full")
def test_everything_at_once_loses_and_repeats_nothing(broker: Broker, scale: Scale, tmp_path: Path) -> None:
    site = site_of(broker, scale, tmp_path)
    blows: list[Callable[[Supervised], None]] = [
        *[kill_driver] * scale.driver_kills,
        *[kill_worker] * scale.worker_kills,
        *([restart_broker, crash_broker, restart_broker] if broker.started_here else []),
        *[start_a_rival, start_a_rival, take_over, take_over, take_over_from_a_zombie],
    ]

    with Supervised(site, scale.bids, scale.seed) as query:
        query.random.shuffle(blows)
        query.strike(blows)
        query.finish()

    assert_same(published_at(site), expected(scale.bids))


def test_bids_are_out_of_order_by_two_seconds_at_most_and_in_any_portions_the_same() -> None:
    bids = Bids(count=4_000, span_ms=20_000)

    table = bids.table().to_pandas()

    for partition in range(PARTITIONS):
        times = table["dateTime"].iloc[partition::PARTITIONS]
        behind = times.cummax() - times
        assert 1_000 < behind.max() <= 2_000
    assert bids.columns(1_000, 1_010).equals(bids.columns(0, 4_000)[1_000:1_010])


def site_of(broker: Broker, scale: Scale, folder: Path, *options: str) -> Site:
    return Site.create(broker, folder, "--max-records", str(scale.slice_records), *options)


def published_at(site: Site) -> Results:
    return published(site.broker, site.out, site.out2, site.out3, key="auction")


def kill_driver(query: Supervised) -> None:
    query.program.kill()


def kill_worker(query: Supervised) -> None:
    query.random.choice(query.await_workers()).kill()


def restart_broker(query: Supervised) -> None:
    query.site.broker.restart()


def crash_broker(query: Supervised) -> None:
    query.site.broker.kill()
    query.site.broker.start()


def start_a_rival(query: Supervised) -> None:
    """Without `takeover` it must refuse, and leave the other one alone."""
    query.await_ownership()
    rival = query.launch()

    until(lambda: not rival.is_running, "the rival to give up")

    assert rival.exit_code == 1
    assert "CheckpointError" in rival.last_words()
    assert "takeover=True" in rival.last_words()
    query.check()


def take_over(query: Supervised) -> None:
    """The new driver goes on, the old one learns that it is fenced."""
    query.await_ownership()
    old = query.program

    query.adopt(query.launch("--takeover"))
    until(lambda: not old.is_running, "the old driver to see that it is fenced")

    assert old.exit_code == 1
    assert "FencedError" in old.last_words()


def take_over_from_a_zombie(query: Supervised) -> None:
    """The old driver is frozen meanwhile, and wakes when the new one is far ahead."""
    query.await_ownership()
    old = query.program
    old.freeze()
    query.adopt(query.launch("--takeover"))
    query.await_consumed()
    old.thaw()

    until(lambda: not old.is_running, "the zombie to see that it is fenced")

    assert old.exit_code == 1
    assert "FencedError" in old.last_words()
