from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from microstream.testing.kafka import Broker, consume_all, produce, unique

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
TIMEOUT_S = 120


def run(program: str, folder: Path) -> str:
    file = folder / "program.py"
    file.write_text(program)
    result = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, timeout=TIMEOUT_S, cwd=folder, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_program_stands_within_the_first_twenty_lines() -> None:
    head = "\n".join(README.splitlines()[:20])

    assert PROGRAMS[0] in head


def test_the_first_program_runs_as_it_stands(tmp_path: Path) -> None:
    printed = run(PROGRAMS[0], tmp_path)

    rows = [line.split()[1] + " " + " ".join(line.split()[-2:]) for line in printed.splitlines()[1:]]
    assert rows == ["1 1 120", "2 1 80", "1 1 300"]


@pytest.mark.broker
def test_the_kafka_program_runs_with_another_address_and_an_end(broker: Broker, tmp_path: Path) -> None:
    source, target = unique("bids"), unique("totals")
    broker.create_topic(source)
    broker.create_topic(target)
    bids = [(1, 120, "12:00:00"), (2, 80, "12:00:30"), (1, 300, "12:00:59"), (1, 1, "12:05:00")]
    records = [{"auction": a, "price": p, "ts": f"2026-01-01T{t}Z"} for a, p, t in bids]
    produce(broker, source, list(map(orjson.dumps, records)))
    program = (
        PROGRAMS[1]
        .replace("localhost:9092", broker.bootstrap_servers)
        .replace('"bids"', repr(source))
        .replace('"totals"', repr(target))
        .replace('"1s"', "ms.available_now()")
    )

    run(program, tmp_path)

    written = [orjson.loads(record.value or b"") for record in consume_all(broker, target)]
    assert sorted((row["auction"], row["n"], row["total"]) for row in written) == [(1, 2, 420), (2, 1, 80)]


def test_ci_runs_the_test_command_of_the_readme() -> None:
    [_, tests] = COMMANDS

    steps = (ROOT / ".ci" / "run").read_text().splitlines()

    assert tests in steps


def test_each_set_up_command_starts_from_nothing_but_python() -> None:
    beginnings = {command.split(" && ")[0] for command in COMMANDS}

    assert beginnings == {"python3.11 -m venv .venv"}


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", README))
def test_what_the_readme_points_to_is_there(target: str) -> None:
    assert (ROOT / target).exists()
