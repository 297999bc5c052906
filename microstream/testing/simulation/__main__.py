"""`python -m microstream.testing.simulation`: run many seeds, or one and print its trace."""

from __future__ import annotations

import logging
import sys
import time
from argparse import ArgumentParser, Namespace
from contextlib import nullcontext

from microstream.testing.simulation.mutations import MUTATIONS, mutated
from microstream.testing.simulation.run import Outcome, simulate, simulate_many


def main(arguments: list[str]) -> int:
    """0 if every seed kept the promise (or, with a mutation, if one did not)."""
    options = _parse(arguments)
    logging.disable(logging.CRITICAL)
    with mutated(options.mutation) if options.mutation else nullcontext():
        failed = _one(options.seed) if options.seed is not None else _many(options)
    return int(bool(failed) is not bool(options.mutation))


def _parse(arguments: list[str]) -> Namespace:
    parser = ArgumentParser(prog="python -m microstream.testing.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2_000, help="how many runs (default: 2000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--seed", type=int, help="run this seed only and print its trace")
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), help="break this rule; stop at the first find")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes share the seeds (default: 1)")
    options = parser.parse_args(arguments)
    if options.jobs > 1 and options.mutation:
        parser.error("--mutation breaks the rule in one process: leave out --jobs")
    return options


def _one(seed: int) -> int:
    outcome = simulate(seed)
    print(*outcome.trace, sep="\n")  # noqa: T201
    _report(outcome)
    return int(bool(outcome.problems))


def _many(options: Namespace) -> int:
    began_s, failed, number = time.monotonic(), 0, 0
    seeds = range(options.first, options.first + options.seeds)
    for number, outcome in enumerate(simulate_many(seeds, jobs=options.jobs), 1):
        if outcome.problems:
            failed += 1
            _report(outcome)
            if options.mutation:
                break
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{number} of {options.seeds}, {failed} failed")
    spent_s = time.monotonic() - began_s
    print(f"{number} seeds, {failed} failed, {spent_s:.1f} s")  # noqa: T201
    return failed


def _report(outcome: Outcome) -> None:
    verdict = "the promise was kept" if not outcome.problems else f"{len(outcome.problems)} problems"
    print(  # noqa: T201
        f"seed {outcome.seed}: {verdict} ({outcome.commits} manifests, {outcome.drivers} drivers, "
        f"{outcome.virtual_s:.0f} virtual seconds)"
    )
    for problem in outcome.problems[:20]:
        print(f"  {problem}")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
