from __future__ import annotations

import io
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import microstream as ms

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLE = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)


def test_the_tutorial_prints_what_it_says() -> None:
    page = (DOCS / "tutorial.md").read_text()
    names: dict[str, Any] = {}

    shown = []
    for program, _ in EXAMPLE.findall(page):
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(program, names)
        shown.append(printed.getvalue())

    assert shown == [expected for _, expected in EXAMPLE.findall(page)]


def test_a_checkpoint_can_be_read_with_the_program_of_its_page(tmp_path: Path) -> None:
    [(program, _)] = EXAMPLE.findall((DOCS / "explanation" / "checkpoint-format.md").read_text())
    (tmp_path / "read.py").write_text(program)
    (tmp_path / "write.py").write_text(QUERY)

    subprocess.run([sys.executable, "write.py"], cwd=tmp_path, check=True, timeout=120)
    read = subprocess.run(
        [sys.executable, "read.py", "checkpoint"], cwd=tmp_path, check=True, timeout=120, capture_output=True, text=True
    )

    end_us = pd.Timestamp("2026-01-01 00:02").value // 1000
    assert f"totals 0 [{{'k': 'b', 'window_end': {end_us}, 'n': 8}}]" in read.stdout.splitlines()


QUERY = """
import orjson
from confluent_kafka import Producer
import microstream as ms
from microstream.testing.inprocess import InProcessBroker

if __name__ == "__main__":
    with InProcessBroker() as broker:
        broker.create_topic("clicks")
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "log_level": 2})
        for k, ts in [("a", "00:00:10"), ("b", "00:01:10"), ("b", "00:01:20")]:
            for partition in range(4):
                row = {"k": k, "ts": f"2026-01-01T{ts}Z"}
                producer.produce("clicks", orjson.dumps(row), partition=partition)
        producer.flush()
        clicks = ms.read_kafka("clicks", bootstrap_servers=broker.bootstrap_servers,
                               schema={"k": "str", "ts": "timestamp[ms]"}, event_time="ts", watermark="0s")
        counts = clicks.groupby("k").window(ms.tumbling("1min")).agg(n=("k", "size")).named("totals")
        query = counts.to_memory().start(checkpoint="checkpoint", trigger=ms.available_now())
        query.await_termination()
"""


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_pages_point_only_to_what_is_there(page: Path) -> None:
    text = page.read_text()
    pages = re.findall(r"\{doc\}`([^`<]+)`", text)
    modules = re.findall(r"`(microstream\.[a-z_.]+)`", text)

    missing = [name for name in pages if not (page.parent / f"{name}.md").exists()]
    missing += [name for name in modules if not is_there(name)]

    assert missing == []


def is_there(name: str) -> bool:
    folder = Path(ms.__file__).parent.joinpath(*name.split(".")[1:])
    return folder.is_dir() or folder.with_suffix(".py").exists() or hasattr(ms, name.split(".")[-1])
