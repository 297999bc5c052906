"""What one seed runs: a small random query, its input over time, and the misfortunes that befall it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from microstream.testing.simulation.source import SimEvent

__all__ = ["Arrival", "Scenario", "draw"]

SECOND_US = 1_000_000
START_US = 1_700_000_000_000_000
"""Event time of the first row: the world's wall clock at virtual time 0, aligned to no window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """`event` is appended to a partition of a topic at virtual time `at_s`."""

    at_s: float
    topic: int
    partition: int
    event: SimEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All choices of a run that are made beforehand.

    Attributes
    ----------
    partitions
        Of each input topic.
    window_us, outer_us
        Size of the first window, and of the window over its results (None: no second one).
    every_us
        Step of the first window, if it slides; None: it tumbles.
    delay_us, disorder_us
        What the watermark allows, and how far back rows really come; more than allowed makes late rows.
    random_keys
        Group by a key that user code draws at random: each try of a batch gives other results.
    raw, late
        Whether rows also leave the query as they came, and late ones by a sink of their own.
    files
        Whether results of the first window also go to a folder: "each batch", "rolled", or "" for not at all.
    changes
        Whether rows that replace one another also come out: of "running" totals, of "windows" or, as "revisions", of
        windows that closed, or, as "whole", all totals in every batch; "" for none.
    replicas
        Supervisors that each keep a driver running.
    impatient
        Whether the second supervisor starts its drivers with takeover=True.
    same_host
        Whether both supervisors live on one machine.
    mishap
        What happens to the checkpoint itself (mishaps.py): "roll back", "bit flip", "pins", "zombie" or "";
        "stragglers": receipts come late and attempts fail often.
    """

    partitions: tuple[int, ...]
    lanes: int
    workers: int
    threads: int
    window_us: int
    outer_us: int | None
    delay_us: int
    disorder_us: int
    random_keys: bool
    raw: bool
    late: bool
    files: str
    replicas: int
    impatient: bool
    same_host: bool
    mishap: str
    trigger: str
    gc_every: int
    manifests: int
    idle_timeout_us: int | None
    run_twice: float
    fault_rate: float
    crash_rate: float
    calm_after_s: float
    arrivals: tuple[Arrival, ...]
    every_us: int | None = None
    changes: str = ""

    @property
    def may_be_late(self) -> bool:
        """Whether rows can be late: then results depend on where batches are cut."""
        return self.disorder_us > self.delay_us or self.idle_timeout_us is not None


def draw(random: Random) -> Scenario:
    """The scenario of a seed."""
    topics = 1 if random.random() < 0.7 else 2
    partitions = tuple(random.randint(1, 3) for _ in range(topics))
    window_us = random.choice((5, 10, 20)) * SECOND_US
    delay_us = random.choice((0, 2, 5)) * SECOND_US
    mishap = random.choice(("roll back", "bit flip", "pins", "zombie", "stragglers", "", "", ""))
    alone = mishap in ("roll back", "bit flip")
    late = random.random() < 0.25 and not alone
    span_s = random.uniform(3.0, 25.0)
    scenario = Scenario(
        partitions=partitions,
        lanes=random.randint(1, 3),
        workers=random.randint(1, 3),
        threads=random.randint(1, 2),
        window_us=window_us,
        outer_us=window_us * random.randint(2, 3) if random.random() < 0.4 else None,
        delay_us=delay_us,
        disorder_us=delay_us + 8 * SECOND_US if late else delay_us,
        random_keys=random.random() < 0.4 and not alone,
        raw=random.random() < 0.4,
        late=late,
        files="",
        replicas=2 if random.random() < 0.25 and not alone else 1,
        impatient=random.random() < 0.5,
        same_host=random.random() < 0.5,
        mishap=mishap,
        trigger=random.choice(("100ms", "500ms", "1s")),
        gc_every=random.choice((2, 5, 50)),
        manifests=random.choice((2, 4, 100)),
        idle_timeout_us=2 * SECOND_US if late and random.random() < 0.5 else None,
        run_twice=random.choice((0.0, 0.02, 0.1)),
        fault_rate=random.choice((0.0, 0.01, 0.03)),
        crash_rate=random.choice((0.0, 0.002, 0.005, 0.01)),
        calm_after_s=span_s + random.uniform(0.0, 60.0),
        arrivals=_arrivals(random, partitions, span_s, delay_us + 8 * SECOND_US if late else delay_us),
    )
    # Drawn last, so that a seed without files is the world that it was before there were any.
    scenario = replace(scenario, files=random.choice(("", "", "each batch", "rolled")))
    if random.random() < 0.25:
        # Drawn last: what else a seed runs stays what it was.
        scenario = replace(scenario, every_us=random.choice((window_us // 5, 2 * SECOND_US, 3 * SECOND_US)))
    scenario = replace(scenario, changes=random.choice(("", "", "", "running", "windows", "revisions", "whole")))
    match mishap:
        case "zombie":
            return _haunted(scenario)
        case "stragglers":
            return replace(scenario, lanes=max(2, scenario.lanes), workers=3, random_keys=True, fault_rate=0.03)
        case _:
            return scenario


def _haunted(scenario: Scenario) -> Scenario:
    """A second driver takes over at once and collects garbage eagerly, so that a sleeper's place in the chain is free
    again; keys are random, so that the sleeper's batch has rows for lanes that nobody published since.
    """
    return replace(
        scenario,
        lanes=max(2, scenario.lanes),
        random_keys=True,
        replicas=2,
        impatient=True,
        trigger="100ms",
        gc_every=2,
        manifests=2,
        crash_rate=0.0,
    )


def _arrivals(random: Random, partitions: tuple[int, ...], span_s: float, disorder_us: int) -> tuple[Arrival, ...]:
    """20 to 80 rows; a key always goes to the same partition, whose event time runs on with some disorder."""
    places = [(topic, number) for topic, count in enumerate(partitions) for number in range(count)]
    keys = random.randint(1, 6)
    step_us = random.choice((200_000, 1_000_000, 3_000_000))
    times = sorted(random.uniform(0.0, span_s) for _ in range(random.randint(20, 80)))
    arrivals = []
    front_us = START_US
    for number, at_s in enumerate(times):
        key = random.randrange(keys)
        topic, partition = places[key % len(places)]
        front_us += random.randint(0, 2 * step_us)
        back_us = random.randint(0, disorder_us) if random.random() < 0.5 else 0
        event = SimEvent(id=number, key=key, value=random.randint(-5, 100), ts_us=front_us - back_us)
        arrivals.append(Arrival(at_s=at_s, topic=topic, partition=partition, event=event))
    return tuple(arrivals)
