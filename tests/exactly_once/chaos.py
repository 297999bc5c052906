"""A query that is fed, disturbed at random moments of its progress, and supervised until everything is out."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil
from bids import PARTITIONS, Bids
from confluent_kafka import Consumer, TopicPartition
from processes import Program, until

from microstream.checkpoint.commit import head
from microstream.checkpoint.local import LocalStore
from microstream.checkpoint.owner import Owner
from microstream.testing.kafka import Broker, unique

__all__ = ["FULL", "Gauges", "Scale", "Site", "Supervised"]

FULL = os.environ.get("MICROSTREAM_CHAOS") == "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Sizes of the tests. `seed` decides when and what is struck."""

    bids: Bids
    driver_kills: int
    worker_kills: int
    broker_restarts: int
    second_drivers: int
    slice_records: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What all runs of one query share: topics, checkpoint, options of the app."""

    broker: Broker
    topic: str
    out: str
    out2: str
    out3: str
    folder: Path
    options: tuple[str, ...]

    @classmethod
    def create(cls, broker: Broker, folder: Path, *options: str, topic: str | None = None) -> Site:
        """New topics; `topic` names one that is there already."""
        site = cls(
            broker=broker,
            topic=topic or unique("bids"),
            out=unique("counts"),
            out2=unique("busiest"),
            out3=unique("totals"),
            folder=folder,
            options=options,
        )
        folder.mkdir(parents=True, exist_ok=True)
        if topic is None:
            broker.create_topic(site.topic, partitions=PARTITIONS)
        broker.create_topic(site.out, partitions=2)
        broker.create_topic(site.out2, partitions=1)
        broker.create_topic(site.out3, partitions=2)
        return site

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint"

    @property
    def arguments(self) -> tuple[str, ...]:
        return (
            *("--bootstrap", self.broker.bootstrap_servers, "--checkpoint", str(self.checkpoint)),
            *("--topic", self.topic, "--out", self.out, "--out2", self.out2, "--out3", self.out3),
            *self.options,
        )


class Gauges:
    """Numbers that grow as the query goes on, seen from outside: steps of the protocol, at which to strike."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._store = LocalStore(site.checkpoint)
        self._bundles: set[str] = set()
        # Not read_committed: rows of a transaction that is open count, so that one can be hit in the middle.
        self._consumer = Consumer(
            {"bootstrap.servers": site.broker.bootstrap_servers, "group.id": unique("gauges"), "log_level": 0}
        )

    def epochs(self) -> int:
        """Drivers that took the checkpoint over."""
        return len(self._store.list("epoch/"))

    def owner_pid(self) -> int:
        """Process that wrote the newest manifest; 0 where there is none."""
        newest = head(self._store)
        owner = None if newest is None else Owner.parse(newest.owner)
        return 0 if owner is None else owner.pid

    def manifests(self) -> int:
        """Number of the newest manifest."""
        return max((int(Path(key).name.partition(".")[0]) for key in self._store.list("manifest/")), default=0)

    def bundles(self) -> int:
        """Bundles seen so far, committed or not."""
        self._bundles.update(self._store.list("data/"))
        return len(self._bundles)

    def written(self) -> int:
        """Records in both output topics, committed or not."""
        places = [
            TopicPartition(self._site.out, 0),
            TopicPartition(self._site.out, 1),
            TopicPartition(self._site.out2, 0),
        ]
        return sum(self._consumer.get_watermark_offsets(place, timeout=30)[1] for place in places)

    def consumed(self) -> int:
        """Records of the input that the newest manifest covers."""
        newest = head(self._store)
        if newest is None:
            return 0
        return sum(line.next_offset for source in newest.sources for line in source.partitions)

    def close(self) -> None:
        self._consumer.close()


STRIDES: dict[str, int] = {"epochs": 1, "manifests": 5, "bundles": 8, "written": 1_500}
"""How far each gauge may move, at most, before the blow."""


class Supervised:
    """One query: fed in portions, struck at random moments, started again whenever it was killed; a context manager.

    A run that ends by itself is an error, and shows the end of its log.
    """

    def __init__(self, site: Site, bids: Bids, seed: int) -> None:
        self.site, self.gauges = site, Gauges(site)
        self.random = random.Random(seed)
        self._bids, self._fed, self._ended = bids, 0, False
        self._runs: list[Program] = []

    @property
    def program(self) -> Program:
        """The run that should be alive."""
        return self._runs[-1]

    def launch(self, *options: str) -> Program:
        """Another run, which is not supervised until `adopt`."""
        number = len(list(self.site.folder.glob("run-*.log")))
        return Program((*self.site.arguments, *options), self.site.folder / f"run-{number:03d}.log")

    def adopt(self, program: Program) -> None:
        """Take care of `program` from now on."""
        self._runs.append(program)

    def ensure(self) -> None:
        """Start the query unless it runs."""
        if not self._runs or self.program.exit_code == -9:
            self.adopt(self.launch())
        self.check()

    def check(self) -> None:
        """Raise if the query ended by itself."""
        assert self.program.is_running, f"the query ended by itself:\n{self.program.last_words()}"

    def feed(self, count: int) -> None:
        """Append the next `count` bids to the input."""
        end = min(self._fed + count, self._bids.count)
        self._bids.produce(self.site.broker, self.site.topic, self._fed, end)
        self._fed = end

    def strike(self, blows: Sequence[Callable[[Supervised], None]]) -> None:
        """Feed an equal portion before each blow, and let it fall at a random moment of the work on that portion."""
        portion = -(-self._bids.count // len(blows))
        for blow in blows:
            self.feed(portion)
            self.ensure()
            self.await_moment()
            blow(self)

    def await_moment(self) -> None:
        """Return at a random moment of progress, or when there is nothing left to do."""
        name = self.random.choice(sorted(STRIDES))
        gauge: Callable[[], int] = getattr(self.gauges, name)
        goal = gauge() + self.random.randint(1, STRIDES[name])
        self._until(lambda: gauge() >= goal or self._is_consumed(), f"{name} to reach {goal}")

    def await_consumed(self) -> None:
        """Return when everything that was fed is committed."""
        self._until(self._is_consumed, f"all of {self._fed} records to be committed")

    def await_ownership(self) -> None:
        """Return when the run has written its first manifest."""
        self._until(lambda: self.gauges.owner_pid() == self.program.pid, "the query to own its checkpoint")

    def await_workers(self) -> list[psutil.Process]:
        """The workers of the local cluster, once there are any."""
        self._until(lambda: bool(self.program.workers()), "a worker of the local cluster")
        return self.program.workers()

    def finish(self) -> None:
        """Feed what is left and the end, await that all is read, stop the query in order."""
        self.feed(self._bids.count)
        self._bids.produce_end(self.site.broker, self.site.topic)
        self._fed += PARTITIONS
        self.ensure()
        self.await_consumed()
        self.program.ask_to_stop()
        until(lambda: not self.program.is_running, "the query to stop")
        assert self.program.exit_code == 0, self.program.last_words()

    def _is_consumed(self) -> bool:
        return self.gauges.consumed() >= self._fed

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        def holds() -> bool:
            self.check()
            return condition()

        until(holds, what)

    def __enter__(self) -> Supervised:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for program in self._runs:
            if program.is_running:
                program.kill()
        self.gauges.close()
