"""Fill the topics that the examples read, and create those that they write.

    python examples/feed.py lines --records 10000

Record i happens `--step-ms` after record i-1, and goes to partition i % 2. The same `--seed` gives the same records.
The last record is of now, but in a topic that was filled before, records begin after its newest. With `--live` they
come as they happen, until Ctrl-C.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]

__all__ = ["KINDS", "PARTITIONS", "fill", "made"]

PARTITIONS = 2
WORDS = (
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "that",
    "it",
    "was",
    "for",
    "on",
    "are",
    "as",
    "with",
    "they",
    "at",
    "be",
)
PAGES = ("/", "/prices", "/docs", "/docs/windows", "/jobs")


def line(at: datetime, dice: random.Random) -> str:
    """Ten words, the first ones more often."""
    return " ".join(WORDS[int(len(WORDS) * dice.random() ** 2)] for _ in range(10))


def bid(at: datetime, dice: random.Random) -> dict[str, Any]:
    """A bid for one of 20 auctions."""
    return {"auction": dice.randrange(20), "price": dice.randrange(1, 1000), "ts": at.isoformat()}


def click(at: datetime, dice: random.Random) -> dict[str, Any]:
    """Somebody looks at a page."""
    return {"user": dice.randrange(100), "page": dice.choice(PAGES), "ts": at.isoformat()}


def reading(at: datetime, dice: random.Random) -> dict[str, Any]:
    """A temperature; one in 50 was held up for five minutes."""
    late_ms = 300_000 if dice.random() < 0.02 else 0
    measured = datetime.fromtimestamp(at.timestamp() - late_ms / 1000, UTC)
    return {"sensor": f"s{dice.randrange(10)}", "celsius": round(dice.gauss(20, 3), 2), "ts": measured.isoformat()}


def payment(at: datetime, dice: random.Random) -> dict[str, Any]:
    """An amount, and how many hours ago the card was used before."""
    amount, hours = round(dice.lognormvariate(3, 1), 2), round(dice.expovariate(0.1), 2)
    return {"card": dice.randrange(1000), "amount": amount, "hours": hours, "ts": at.isoformat()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Topics that are filled with what `make` gives, and topics where an example puts its results."""

    make: Callable[[datetime, random.Random], str | dict[str, Any]]
    topics: tuple[str, ...]
    results: tuple[str, ...] = ()


KINDS = {
    "lines": Kind(make=line, topics=("lines",), results=("frequent-words",)),
    "bids": Kind(make=bid, topics=("bids",), results=("totals",)),
    "clicks": Kind(make=click, topics=("clicks-web", "clicks-app"), results=("views",)),
    "readings": Kind(make=reading, topics=("readings",), results=("averages", "late-readings")),
    "payments": Kind(make=payment, topics=("payments",), results=("scored-payments",)),
}


def made(kind: str, records: int | None, start: datetime, step_ms: int, seed: int = 0) -> Iterator[tuple[int, bytes]]:
    """Record time in milliseconds and value of each record; None: without end."""
    dice = random.Random(seed)
    for at in itertools.count() if records is None else range(records):
        time_ms = int(start.timestamp() * 1000) + at * step_ms
        value = KINDS[kind].make(datetime.fromtimestamp(time_ms / 1000, UTC), dice)
        yield time_ms, (value if isinstance(value, str) else json.dumps(value)).encode()


def create_topics(bootstrap_servers: str, names: list[str]) -> set[str]:
    """Create those of `names` that are not there: these. The broker keeps their records, however old they are."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    there = admin.list_topics(timeout=10).topics
    new = [NewTopic(name, PARTITIONS, 1, config={"retention.ms": "-1"}) for name in names if name not in there]
    for created in (admin.create_topics(new) if new else {}).values():
        created.result()
    return {topic.topic for topic in new}


def after_newest(bootstrap_servers: str, topic: str) -> datetime:
    """The time right after the newest record of `topic`: no window that holds later ones has closed."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    newest = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]
    found = admin.list_offsets({TopicPartition(topic, at): newest for at in range(PARTITIONS)})
    time_ms = max(each.result().timestamp for each in found.values())
    return datetime.fromtimestamp((time_ms + 1) / 1000, UTC)


def as_they_happen(records: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """The first of `records` now, each of the others when so much time has passed as lies between them."""
    ahead_s = None
    for time_ms, value in records:
        ahead_s = time_ms / 1000 - time.time() if ahead_s is None else ahead_s
        time.sleep(max(0.0, time_ms / 1000 - time.time() - ahead_s))
        yield time_ms, value


def fill(bootstrap_servers: str, topic: str, records: Iterator[tuple[int, bytes]]) -> None:
    """Produce `records` to the partitions of `topic` in turns."""
    producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 20, "enable.idempotence": True})
    try:
        for at, (time_ms, value) in enumerate(records):
            producer.produce(topic, value, partition=at % PARTITIONS, timestamp=time_ms)
            producer.poll(0)
    finally:
        producer.flush()


def main(arguments: list[str]) -> None:
    """Do what the command line says."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("kind", choices=KINDS)
    options.add_argument("--bootstrap-servers", default="localhost:9092", metavar="HOST:PORT")
    options.add_argument("--records", type=int, default=10_000, help="per topic")
    options.add_argument("--step-ms", type=int, default=20, help="of event time between two records")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--live", action="store_true", help="a record per step from now on, to the first topic")
    chosen = options.parse_args(arguments)
    try:
        feed(chosen)
    except KeyboardInterrupt:
        return
    except KafkaException as problem:
        sys.exit(
            f"{chosen.bootstrap_servers}: {problem.args[0].str()}. Is a broker there? --bootstrap-servers names one."
        )


def feed(chosen: argparse.Namespace) -> None:
    """Fill the topics of a kind."""
    kind = KINDS[chosen.kind]
    new = create_topics(chosen.bootstrap_servers, [*kind.topics, *kind.results])
    span_s = 0 if chosen.live else chosen.records * chosen.step_ms / 1000
    for at, topic in enumerate(kind.topics):
        start = datetime.fromtimestamp(time.time() - span_s, UTC)
        if topic not in new:
            start = max(start, after_newest(chosen.bootstrap_servers, topic))
        count = None if chosen.live else chosen.records
        records = made(chosen.kind, count, start, chosen.step_ms, chosen.seed + at)
        if chosen.live:
            print(f"{topic}: a record every {chosen.step_ms} ms, until Ctrl-C", flush=True)
        fill(chosen.bootstrap_servers, topic, as_they_happen(records) if chosen.live else records)
        print(f"{topic}: {chosen.records} records")


if __name__ == "__main__":
    main(sys.argv[1:])
