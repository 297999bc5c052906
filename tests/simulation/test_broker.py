"""The broker model keeps what exactly-once rests on: fencing, atomic transactions, stable ends, unstable offsets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.testing.simulation.broker import Broker, Entry, Fenced
from microstream.testing.simulation.kafka import SimConsumer, SimProducer
from microstream.testing.simulation.kernel import Actor, Faults, World

seeds = st.integers(0, 2**32)
MARKER = TopicPartition("out", 0)


def in_world(seed: int, work: Callable[[World, Broker], None], faults: Faults | None = None) -> Broker:
    """Run `work` as a process of a fresh world with a topic "out" of one partition."""
    world = World(seed, faults)
    broker = Broker(world)
    broker.create_topic("out", 1)

    async def main() -> None:
        await world.start(world.actor("client"), work, world, broker)

    world.run(main())
    return broker


def values(broker: Broker) -> list[bytes | None]:
    log = broker.log("out", 0)
    return [entry.value for _, entry in log.committed(0, len(log.entries))]


def new_producer(world: World, broker: Broker, owner: str = "t") -> SimProducer:
    producer = SimProducer(world, broker, {"transactional.id": owner})
    producer.init_transactions()
    producer.begin_transaction()
    return producer


def test_rows_of_an_open_transaction_are_invisible_and_hold_back_what_follows() -> None:
    seen: list[list[bytes | None]] = []

    def work(world: World, broker: Broker) -> None:
        producer = new_producer(world, broker)
        broker.append("out", 0, [Entry(value=b"before")])
        producer.produce("out", b"inside")
        producer.flush()
        broker.append("out", 0, [Entry(value=b"after")])
        seen.append(values(broker))
        producer.commit_transaction()
        world.sleep(1)

    broker = in_world(0, work)

    assert seen == [[b"before"]]
    assert values(broker) == [b"before", b"inside", b"after"]


def test_a_second_init_aborts_the_open_transaction_and_fences_the_first_producer() -> None:
    def work(world: World, broker: Broker) -> None:
        zombie = new_producer(world, broker)
        zombie.produce("out", b"zombie")
        zombie.flush()
        new_producer(world, broker)
        with pytest.raises(KafkaException) as refusal:
            zombie.commit_transaction()
        error = refusal.value.args[0]
        assert (error.code(), error.fatal()) == (KafkaError._FENCED, True)

    broker = in_world(0, work)

    assert values(broker) == []


def test_a_decided_transaction_is_completed_by_init_not_aborted() -> None:
    def work(world: World, broker: Broker) -> None:
        producer = new_producer(world, broker)
        producer.produce("out", b"decided")
        producer.flush()
        broker.end("t", 0, commit=True)
        broker.init_transactions("t")

    assert values(in_world(0, work)) == [b"decided"]


def test_markers_count_with_the_commit_and_are_waited_for_while_it_is_undecided() -> None:
    read: list[int] = []

    def work(world: World, broker: Broker) -> None:
        consumer = SimConsumer(world, broker, {"group.id": "g"})
        producer = new_producer(world, broker)
        read.append(consumer.committed([MARKER])[0].offset)
        producer.send_offsets_to_transaction([TopicPartition("out", 0, 7, "1/1")], consumer.consumer_group_metadata())
        producer.commit_transaction()
        read.append(consumer.committed([MARKER])[0].offset)

    in_world(0, work)

    assert read == [-1001, 7]


def test_an_open_transaction_times_out_and_fences_its_producer() -> None:
    def work(world: World, broker: Broker) -> None:
        producer = new_producer(world, broker)
        producer.produce("out", b"slow")
        producer.flush()
        world.sleep(120)
        with pytest.raises(Fenced):
            broker.end("t", 0, commit=True)

    assert values(in_world(0, work)) == []


@given(seed=seeds)
@settings(deadline=None, max_examples=50)
def test_with_markers_every_batch_is_visible_exactly_once_whatever_is_lost(seed: int) -> None:
    faults = Faults(lost_request=0.1, lost_reply=0.1, late_request=0.1)

    def publish(world: World, broker: Broker, batch: int) -> None:
        producer = SimProducer(world, broker, {"transactional.id": "t"})
        consumer = SimConsumer(world, broker, {"group.id": "g"})
        producer.init_transactions()
        if consumer.committed([MARKER])[0].offset >= batch:
            return
        producer.begin_transaction()
        producer.produce("out", b"%d" % batch)
        producer.flush()
        producer.send_offsets_to_transaction([TopicPartition("out", 0, batch)], consumer.consumer_group_metadata())
        producer.commit_transaction()

    def work(world: World, broker: Broker) -> None:
        for batch in range(5):
            for _ in range(1000):
                try:
                    publish(world, broker, batch)
                    break
                except KafkaException:
                    world.sleep(0.1)
        world.sleep(60)

    broker = in_world(seed, work, faults)

    assert values(broker) == [b"0", b"1", b"2", b"3", b"4"]


def test_without_markers_the_same_loop_doubles_rows_in_some_world() -> None:
    faults = {"lost_request": 0.1, "lost_reply": 0.1}

    def work(world: World, broker: Broker) -> None:
        for batch in range(5):
            done = False
            while not done:
                try:
                    producer = new_producer(world, broker)
                    producer.produce("out", b"%d" % batch)
                    producer.commit_transaction()
                    done = True
                except KafkaException:
                    world.sleep(0.1)
        world.sleep(60)

    outputs = [values(in_world(seed, work, Faults(**faults))) for seed in range(20)]

    assert any(len(output) > 5 for output in outputs)


def test_a_process_that_dies_inside_a_transaction_leaves_nothing_behind_once_it_timed_out() -> None:
    world = World(5)
    broker = Broker(world)
    broker.create_topic("out", 1)
    victim: Actor = world.actor("victim")

    def work() -> None:
        producer = new_producer(world, broker)
        producer.produce("out", b"half")
        producer.flush()
        world.sleep(100)

    async def main() -> None:
        world.start(victim, work)
        world.loop.call_later(1, world.kill, victim)
        done = world.loop.create_future()
        world.loop.call_later(200, done.set_result, None)
        await done

    world.run(main())
    broker.append("out", 0, [Entry(value=b"later")])

    assert values(broker) == [b"later"]
