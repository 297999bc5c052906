"""The programs of the documentation run as they stand, but for places: broker, scheduler and names of topics."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import dask.config
import pytest
from distributed import LocalCluster

from microstream.testing.kafka import Broker, produce, unique

DOCS = Path(__file__).parents[1] / "docs"
PROGRAM = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
BROKER, SCHEDULER = "localhost:9092", "tcp://scheduler:8786"
PAGES = [
    "explanation/coming-from",
    "how-to/bad-records",
    "how-to/cluster",
    "how-to/notebooks",
    "how-to/production",
    "how-to/read-files",
    "how-to/read-kafka",
    "how-to/totals",
    "how-to/windows",
    "how-to/write",
]
RECORDS = {
    "bids": [
        b'{"auction": 1, "price": 120.0, "ts": "2026-01-01T12:00:00Z", "bidder": "ann"}',
        b'{"auction": 2, "price": 80.0, "ts": "2026-01-01T12:00:20Z", "bidder": "bob"}',
        b'{"auction": 1, "price": 300.0, "ts": "2026-01-01T12:00:50Z", "bidder": "cyd"}',
    ],
    "lines": [b"to be or", b"not to be"],
    "mixed": [b'{"auction": 1, "price": 120.0}', b'{"auction": "one"}', b'{"auction": 2, "price": 80.0}'],
    "totals": [],
}
"""Topics that pages name, and what is in them."""


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as cluster:
        yield cluster.scheduler_address


@pytest.mark.broker
@pytest.mark.parametrize("page", PAGES)
def test_a_page_prints_what_it_says(
    page: str, broker: Broker, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = with_places((DOCS / f"{page}.md").read_text(), broker, scheduler)
    monkeypatch.chdir(tmp_path)

    with dask.config.set({"microstream.workers": 1}):
        shown = printed(text)

    assert shown == [expected for _, expected in PROGRAM.findall(text)]


def printed(text: str) -> list[str]:
    """What each program of a page prints; they share their names."""
    names: dict[str, Any] = {}
    shown = []
    for program, _ in PROGRAM.findall(text):
        out = io.StringIO()
        with redirect_stdout(out):
            exec(program, names)
        shown.append(out.getvalue())
    return shown


def with_places(text: str, broker: Broker, scheduler: str) -> str:
    """The programs of `text` with topics that only this test uses, filled as `RECORDS` says."""
    for name, records in RECORDS.items():
        asked = f'read_kafka("{name}"', f'infer_schema("{name}"', f'to_kafka("{name}"', f'read_kafka(\n    "{name}"'
        if BROKER not in text or not any(call in text for call in asked):
            continue
        topic = unique(name)
        broker.create_topic(topic)
        produce(broker, topic, records)
        for call in asked:
            text = text.replace(call, call.replace(f'"{name}"', f'"{topic}"'))
    return text.replace(BROKER, broker.bootstrap_servers).replace(SCHEDULER, scheduler)
