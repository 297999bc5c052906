"""Processing time in simulated worlds: hosts with other clocks, lost workers, drivers that take over."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from microstream.plan.nodes import Aggregate, Concat, Late, Sink, Sliding, Source, Tumbling, WindowAggregate
from microstream.plan.processing_time import PROCESSING_TIME, with_processing_time
from microstream.plan.stages import Stages, cut
from microstream.testing.simulation.oracle import windows
from microstream.testing.simulation.query import INNER, LATE, RAW
from microstream.testing.simulation.run import Simulation
from microstream.testing.simulation.scenario import Scenario, draw
from microstream.testing.simulation.seams import no_garbage_collection
from microstream.testing.simulation.sink import SimSink, rows_of
from microstream.testing.simulation.source import EVENTS, SimEvent, SimSource

SOUND = [seed for seed in range(60) if draw(Random(f"scenario {seed}")).mishap not in ("roll back", "bit flip")]

TOTALS = (
    Aggregate(name="n", column=None, how="size"),
    Aggregate(name="total", column="value", how="sum"),
    Aggregate(name="low", column="value", how="min"),
    Aggregate(name="high", column="value", how="max"),
)


class ByTheClock(Simulation):
    """The world of a seed with a query whose rows have the time of their batch, judged by the rows as they came out."""

    def __init__(self, seed: int) -> None:
        drawn = draw(Random(f"scenario {seed}"))
        plain = replace(drawn, raw=True, late=True, outer_us=None, files="", random_keys=False)
        # Windows that several batches fall into, and that end while nothing comes.
        super().__init__(seed, replace(plain, window_us=plain.window_us // 5, every_us=_step_us(plain)))
        self.stages = self._clocked()

    def _clocked(self) -> Stages:
        sources = tuple(
            Source(
                name=topic.name,
                spec=SimSource(topic=topic, name=topic.name),
                schema=with_processing_time(EVENTS),
                event_time=PROCESSING_TIME,
            )
            for topic in self.topics
        )
        rows = sources[0] if len(sources) == 1 else Concat(children=sources)
        size_us, every_us = self.scenario.window_us, self.scenario.every_us
        counts = WindowAggregate(
            child=rows,
            keys=("key",),
            window=Sliding(size_us=size_us, every_us=every_us) if every_us else Tumbling(size_us=size_us),
            on=PROCESSING_TIME,
            aggregates=TOTALS,
        )
        frames = {INNER: counts, LATE: Late(operator=counts), RAW: rows}
        return cut(
            tuple(
                Sink(child=child, name=name, spec=SimSink(world=self.world, broker=self.broker, topic=name))
                for name, child in frames.items()
            )
        )

    def _judge(self) -> list[str]:
        """Whatever their times are: windows hold exactly the rows that came out with times in them, and each once."""
        raw, inner = rows_of(self.broker, RAW), rows_of(self.broker, INNER)
        read = [SimEvent(id=r["id"], key=r["key"], value=r["value"], ts_us=r[PROCESSING_TIME]) for r in raw]
        wanted = windows(read, self.scenario.window_us, self.scenario.every_us)
        found = {(r["key"], r["window_end"]): (r["n"], r["total"], r["low"], r["high"]) for r in inner}
        problems = []
        if sorted(r["id"] for r in raw) != sorted(arrival.event.id for arrival in self.scenario.arrivals):
            problems.append("rows are missing or came out twice")
        if found != wanted or len(found) != len(inner):
            problems.append(f"windows are {found}, not {wanted}")
        if rows_of(self.broker, LATE):
            problems.append("rows were late")
        return problems


def _step_us(scenario: Scenario) -> int | None:
    return None if scenario.every_us is None else scenario.window_us // 15


@pytest.mark.parametrize("first", range(0, len(SOUND), 10))
def test_windows_hold_the_rows_of_their_time_whatever_goes_wrong(first: int) -> None:
    with no_garbage_collection():
        outcomes = [ByTheClock(seed).outcome() for seed in SOUND[first : first + 10]]

    assert {outcome.seed: outcome.problems for outcome in outcomes if outcome.problems} == {}


def test_a_world_with_processing_time_is_the_same_every_time() -> None:
    with no_garbage_collection():
        first, second = ByTheClock(SOUND[0]).outcome(), ByTheClock(SOUND[0]).outcome()

    assert first.trace == second.trace
