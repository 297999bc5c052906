from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading

import pytest

from microstream.errors import SettingError
from microstream.observe.logs import JsonFormatter, PlainFormatter, configure_logs, note, working_on

log = logging.getLogger("microstream.test-of-logs")


class Kept(logging.Handler):
    """Formats at once, as handlers that write do."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def as_json() -> Kept:
    log.handlers = [Kept(JsonFormatter())]
    log.propagate = False
    return log.handlers[0]  # type: ignore[return-value]


def test_a_line_says_what_it_is_about_and_a_call_knows_best(as_json: Kept) -> None:
    with working_on(query="totals", batch=3):
        with working_on(lane=1):
            note(operator="per-page")
            log.warning("slow: %d ms", 12)
        log.warning("again", extra={"batch": 4})
    log.warning("outside")

    first, second, third = map(json.loads, as_json.lines)
    assert {name: first[name] for name in ("query", "batch", "lane", "operator", "message", "level")} == {
        "query": "totals",
        "batch": 3,
        "lane": 1,
        "operator": "per-page",
        "message": "slow: 12 ms",
        "level": "WARNING",
    }
    assert (second["query"], second["batch"], "lane" in second) == ("totals", 4, False)
    assert set(third) == {"time", "level", "logger", "message"}


def test_threads_do_not_mix_what_their_lines_are_about(as_json: Kept) -> None:
    both = threading.Barrier(2)

    def work(batch: int) -> None:
        with working_on(batch=batch):
            both.wait()
            log.warning("%d", batch)

    threads = [threading.Thread(target=work, args=(batch,)) for batch in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(int(line["message"]) == line["batch"] for line in map(json.loads, as_json.lines))


def test_a_traceback_stays_on_the_json_line_and_below_the_plain_one(as_json: Kept) -> None:
    plain = Kept(PlainFormatter())
    log.addHandler(plain)
    try:
        raise ValueError("no\nsuch")
    except ValueError:
        log.exception("failed")

    assert "ValueError: no" in json.loads(as_json.lines[0])["error"]
    assert "\n" not in as_json.lines[0]
    assert plain.lines[0].endswith("ValueError: no\nsuch")


def test_unknown_formats_and_levels_are_refused() -> None:
    with pytest.raises(SettingError, match="plain, json"):
        configure_logs("xml")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="WARNING"):
        configure_logs("json", "loud")


PROGRAM = """
import logging, sys
from microstream.observe.logs import configure_logs, logs_of_environment
logs_of_environment()
logging.getLogger("microstream.driver").info("once")
configure_logs("plain", "WARNING")
logging.getLogger("microstream.driver").info("never")
logging.getLogger("microstream.driver").warning("plainly")
"""


def test_the_environment_chooses_the_format_and_a_call_replaces_it() -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "MICROSTREAM_LOG": "json"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    first, second = result.stderr.splitlines()
    assert json.loads(first)["message"] == "once"
    assert second.endswith("WARNING microstream.driver plainly")
