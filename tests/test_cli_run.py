"""`microstream run`, `explain`, `status`, `checkpoints` and `state`, as a shell calls them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, NamedTuple

import click.testing
import orjson
import pytest
from confluent_kafka import Producer

from microstream.cli.dask import command
from microstream.testing.inprocess import InProcessBroker

COMMAND = [str(Path(sys.executable).with_name("microstream"))]
HERE = Path(__file__).parent
TIMEOUT_S = 60
ENDED_BY_USER = 130


ONE_WORKER = {**os.environ, "DASK_MICROSTREAM__WORKERS": "1"}


def in_a_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False, cwd=HERE, env=ONE_WORKER
    )


def here(*arguments: str) -> click.testing.Result:
    """The command in this process, as a subcommand of dask."""
    return click.testing.CliRunner().invoke(command, list(arguments))


def lines_of(written: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.splitlines() if line.startswith("{")]


class Ran(NamedTuple):
    """What one run left and said."""

    folder: str
    events: list[dict[str, Any]]
    logged: list[dict[str, Any]]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A checkpoint that `microstream run --json` left, and what it printed."""
    folder = str(tmp_path_factory.mktemp("run") / "checkpoint")
    options = ("--checkpoint", folder, "--trigger", "available_now", "--name", "pages", "--json", "--log", "json")
    result = in_a_process("run", "cli_app:sinks", *options)
    assert result.returncode == 0, result.stderr
    return Ran(folder, lines_of(result.stdout), lines_of(result.stderr))


def test_run_prints_an_event_per_batch(checkpoint: Ran) -> None:
    events = checkpoint.events

    assert [event["batchId"] for event in events] == list(range(len(events)))
    assert {event["name"] for event in events} == {"pages"}
    assert sum(event["numInputRows"] for event in events) == 4


def test_lines_that_workers_log_say_what_they_are_about(checkpoint: Ran) -> None:
    said = [line for line in checkpoint.logged if line["logger"] == "microstream.app"]

    assert {line["query"] for line in said} == {"pages"}
    assert {line["batch"] for line in said} <= {event["batchId"] for event in checkpoint.events}
    assert sum(int(line["message"].split()[0]) for line in said) == 4
    assert all(line["lane"] == 0 for line in said)


def test_status_names_everything_that_is_in_the_checkpoint(checkpoint: Ran) -> None:
    folder, events, _ = checkpoint

    plain, told = here("status", folder), here("status", folder, "--json")

    status = json.loads(told.stdout)
    assert (status["status"], status["batch"]) == ("finished", len(events) - 1)
    assert status["sources"][0]["next_offset"] == 4
    assert [sink["name"] for sink in status["sinks"]] == ["counts", "late"]
    assert "per-page" in plain.stdout
    assert status["job"] in plain.stdout


def test_checkpoints_and_state_can_be_looked_at(checkpoint: Ran) -> None:
    folder = checkpoint.folder

    listed = [json.loads(line) for line in here("checkpoints", folder, "--json").stdout.splitlines()]
    as_table = here("state", folder, "per-page", "--batch", "0")
    as_csv = here("state", folder, "per-page", "--batch", "0", "--format", "csv")

    assert listed[0]["kind"] == "start"
    assert as_csv.stdout.splitlines() == [
        "page,window_start,window_end,n",
        "a,2026-01-01T00:00:00.000000,2026-01-01T00:01:00.000000,1",
    ]
    assert as_table.stdout.split()[-1] == "1"


def test_explain_prints_the_plan_and_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    result = here("explain", "cli_app:sinks")

    assert result.exit_code == 0, result.stderr
    assert "stage 1: one task per lane" in result.stdout
    assert "sink counts" in result.stdout


def test_a_function_that_starts_its_query_is_watched() -> None:
    result = in_a_process("run", "cli_app:started")

    assert result.returncode == 0, result.stderr
    assert "by-itself: batch" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "cli_app"), "write module:function"),
        (("run", "cli_ap:sinks"), "there is no module 'cli_ap'"),
        (("explain", "cli_app:sins"), "module cli_app has no 'sins'"),
        (("run", "cli_app:nothing"), "started no query"),
        (("explain", "cli_app:frame"), "Let it return sinks"),
        (("status", "/nowhere/at/all"), "there is no manifest"),
        (("state", "hdfs://x/y", "z"), 'where "create if absent" is known to hold'),
    ],
)
def test_a_wrong_call_is_told_in_one_sentence(
    arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(HERE)
    result = here(*arguments)

    assert result.exit_code == 1
    assert said in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, ENDED_BY_USER)])
def test_run_stops_in_order_at_signals(number: signal.Signals, code: int, tmp_path: Path) -> None:
    folder = str(tmp_path / "checkpoint")
    with InProcessBroker() as broker:
        broker.create_topic("bids")
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "log_level": 2})
        for n in range(40):
            producer.produce("bids", orjson.dumps({"k": 1, "ts": n * 1000}), partition=n % 4)
        producer.flush(10)
        process = subprocess.Popen(
            [
                *COMMAND,
                "run",
                "cli_app:endless",
                "--checkpoint",
                folder,
                "--trigger",
                "100ms",
                "--json",
                "--log",
                "json",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=HERE,
            env={**ONE_WORKER, "BROKER": broker.bootstrap_servers, "TOPIC": "bids"},
            start_new_session=True,
        )
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=TIMEOUT_S)

    assert first["batchId"] == 0
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert json.loads(here("status", folder, "--json").stdout)["status"] == "stopped"
    assert any("finishing and publishing" in line["message"] for line in lines_of(err)), err


def test_sigterm_before_there_is_a_query_starts_none(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"

    result = in_a_process("run", "cli_app:terminated", "--checkpoint", str(folder))

    assert result.returncode == 128 + signal.SIGTERM, result.stderr
    assert "Traceback" not in result.stderr
    assert not folder.exists()


def test_sigterm_that_comes_before_a_program_starts_its_query_stops_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ONE_WORKER, "FOLDER", str(tmp_path / "checkpoint"))

    result = in_a_process("run", "cli_app:terminated_first")

    assert result.returncode == 0, result.stderr
    assert json.loads(here("status", str(tmp_path / "checkpoint"), "--json").stdout)["status"] == "stopped"


def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path) -> None:
    folder = str(tmp_path / "checkpoint")
    process = subprocess.Popen(
        [*COMMAND, "run", "cli_app:endless_batch", "--checkpoint", folder, "--log", "plain"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=HERE,
        env=ONE_WORKER,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        for said in ("stuck", "Ctrl-C: finishing"):
            assert any(said in line for line in process.stderr)
            os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    assert process.returncode == ENDED_BY_USER, err
    assert "Stopped." in err


def test_dask_finds_the_commands() -> None:
    declared = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]["entry-points"]["dask_cli"]
    [entry] = [EntryPoint(name, value, "dask_cli") for name, value in declared.items()]

    assert entry.load() is command
    assert command.name == "microstream"
