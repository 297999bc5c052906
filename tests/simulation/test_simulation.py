"""The promise, in many worlds: exactly-once output and a sound checkpoint, whatever goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from random import Random

import pytest

from microstream.testing.simulation.mutations import MUTATIONS, find
from microstream.testing.simulation.run import simulate, simulate_many
from microstream.testing.simulation.scenario import draw

SEEDS = int(os.environ.get("MICROSTREAM_SIMULATION_SEEDS", "200"))
"""How many worlds; each break of the protocol must show in ten times as many."""

QUICK = (
    "any_execution",
    "files_under_random_names",
    "late_by_this_batch",
    "no_fence",
    "no_marker",
    "no_read_back",
    "publish_before_manifest",
    "roll_without_manifest",
    "runs_of_aborted_attempts",
    "skipped_counts_as_own",
    "source_tasks_too_early",
    "state_of_wrong_commit",
    "unconfirmed_predecessor",
)
"""Breaks that show within a few worlds; the others are looked for when more worlds than usual are asked for."""


def mishap_of(seed: int) -> str:
    return draw(Random(f"scenario {seed}")).mishap


@pytest.mark.parametrize("first", range(0, SEEDS, 20))
def test_the_promise_is_kept(first: int) -> None:
    seeds = [seed for seed in range(first, first + 20) if mishap_of(seed) != "roll back"]

    outcomes = [simulate(seed) for seed in seeds]

    assert {outcome.seed: outcome.problems for outcome in outcomes if outcome.problems} == {}


def test_a_checkpoint_that_is_older_than_its_sinks_is_refused_before_anything_is_published() -> None:
    seeds = [seed for seed in range(SEEDS) if mishap_of(seed) == "roll back"]

    outcomes = [simulate(seed) for seed in seeds]

    assert {outcome.seed: outcome.problems for outcome in outcomes if outcome.problems} == {}
    assert any(outcome.refused for outcome in outcomes)


def test_damaged_objects_are_noticed_and_never_lead_to_wrong_output() -> None:
    seeds = [seed for seed in range(SEEDS) if mishap_of(seed) == "bit flip"]

    outcomes = [simulate(seed) for seed in seeds]

    assert {outcome.seed: outcome.problems for outcome in outcomes if outcome.problems} == {}
    assert any(outcome.refused for outcome in outcomes)


def test_a_seed_is_one_run_whatever_the_interpreter_does() -> None:
    command = [sys.executable, "-m", "microstream.testing.simulation", "--seed", "7"]

    runs = {
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": hash_seed}).stdout
        for hash_seed in ("1", "2")
    }

    assert len(runs) == 1


def test_a_run_leaves_nothing_behind_that_the_next_one_could_see() -> None:
    alone = simulate(11)

    simulate(12)

    assert simulate(11) == alone


def test_output_that_is_too_damaged_to_be_read_is_a_problem_of_its_seed() -> None:
    outcome = find("crc_unchecked", [38])

    assert outcome is not None
    assert outcome.problems[0].startswith("the output is no rows")


def test_seeds_shared_by_processes_come_out_as_in_one() -> None:
    shared = list(simulate_many(range(3), jobs=2))

    assert shared == list(simulate_many(range(3)))


@pytest.mark.parametrize("name", QUICK if SEEDS <= 200 else sorted(MUTATIONS))
@pytest.mark.timeout(1_800)
def test_every_break_of_the_protocol_is_found(name: str) -> None:
    seeds = (seed for seed in range(10 * SEEDS) if mishap_of(seed) != "roll back")

    outcome = find(name, seeds)

    assert outcome is not None
