"""Every example runs with its defaults but the places, and says what pandas says about the same records."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import orjson
import pandas as pd
import pytest

import microstream as ms
from microstream.testing.kafka import Broker, consume_all, unique

pytestmark = [pytest.mark.broker, pytest.mark.filterwarnings("ignore:.*not prepared.*")]

FOLDER = Path(__file__).parents[2] / "examples"
START = datetime(2026, 1, 1, tzinfo=UTC)
RECORDS, STEP_MS = 3_000, 100
PROGRAMS = sorted(file.stem for file in FOLDER.glob("*.py") if file.stem not in ("arguments", "feed"))


@pytest.fixture(autouse=True)
def _on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.fixture
def feed() -> ModuleType:
    return import_module("feed")


class Stage:
    """Topics of one test, and the arguments that name them."""

    def __init__(self, broker: Broker, scheduler: str, folder: Path, feed: ModuleType) -> None:
        self.broker, self.folder, self.feed = broker, folder, feed
        self.shared = ["--bootstrap-servers", broker.bootstrap_servers, "--once"]
        self.shared += ["--checkpoint", str(folder / "checkpoint")]
        self.scheduler = scheduler

    def filled(self, kind: str, seed: int = 0) -> tuple[str, pd.DataFrame]:
        """A topic with records of `kind`, and those as pandas reads them."""
        topic = self.topic()
        return topic, self.fill(topic, kind, START, seed)

    def fill(self, topic: str, kind: str, start: datetime, seed: int = 0) -> pd.DataFrame:
        records = list(self.feed.made(kind, RECORDS, start, STEP_MS, seed))
        self.feed.fill(self.broker.bootstrap_servers, topic, iter(records))
        values = [value for _, value in records]
        if kind == "lines":
            times = pd.to_datetime([time_ms for time_ms, _ in records], unit="ms")
            return pd.DataFrame({"line": [value.decode() for value in values], "ts": times})
        rows = pd.DataFrame([orjson.loads(value) for value in values])
        return rows.assign(ts=pd.to_datetime(rows["ts"], format="ISO8601").dt.tz_localize(None))

    def topic(self) -> str:
        name = unique("example")
        self.feed.create_topics(self.broker.bootstrap_servers, [name])
        return name

    def run(self, program: str, **options: str) -> None:
        """The example in this process."""
        given = [part for name, value in options.items() for part in (f"--{name}", value)]
        import_module(program).main([*self.shared, "--scheduler", self.scheduler, *given])

    def rows(self, topic: str) -> pd.DataFrame:
        rows = pd.DataFrame([orjson.loads(record.value or b"") for record in consume_all(self.broker, topic)])
        times = [name for name in rows.columns if name in ("ts", "window_start", "window_end")]
        return rows.assign(
            **{name: pd.to_datetime(rows[name], format="ISO8601").dt.tz_localize(None) for name in times}
        )


@pytest.fixture
def stage(broker: Broker, scheduler: str, tmp_path: Path, feed: ModuleType) -> Stage:
    return Stage(broker, scheduler, tmp_path, feed)


def closed(rows: pd.DataFrame, size: str, delay: str) -> pd.DataFrame:
    """Rows of windows that end at or before the watermark, with `window_start`."""
    newest = min(rows["ts"][at::2].max() for at in range(2))
    start = rows["ts"].dt.floor(size)
    return rows.assign(window_start=start)[start + pd.Timedelta(size) <= newest - pd.Timedelta(delay)]


def as_set(rows: pd.DataFrame, columns: list[str]) -> set[tuple[Any, ...]]:
    rounded = rows[columns].select_dtypes("float").round(6)
    return set(rows[columns].assign(**rounded).itertuples(index=False, name=None))


def test_frequent_words_are_counted(stage: Stage) -> None:
    source, lines = stage.filled("lines")
    target = stage.topic()

    stage.run("count_words", source=source, target=target, least="50")

    words = closed(lines, "10s", "2s").assign(word=lambda rows: rows["line"].str.split()).explode("word")
    counts = words.groupby(["word", "window_start"]).size().rename("n").reset_index()
    found, columns = stage.rows(target), ["word", "window_start", "n"]
    assert as_set(found, columns) == as_set(counts[counts["n"] >= 50], columns)
    assert 0 < len(found) < len(counts)


def test_bids_are_summed_per_auction(stage: Stage) -> None:
    source, bids = stage.filled("bids")
    target = stage.topic()

    stage.run("bids_per_auction", source=source, target=target)

    groups = closed(bids, "10s", "4s").groupby(["auction", "window_start"], as_index=False)
    totals = groups.agg(n=("price", "size"), total=("price", "sum"), top=("price", "max"))
    columns = ["auction", "window_start", "n", "total", "top"]
    assert as_set(stage.rows(target), columns) == as_set(totals, columns)


def test_clicks_lie_in_folders_by_day(stage: Stage) -> None:
    source, clicks = stage.filled("clicks")
    folder = stage.folder / "clicks"

    stage.run("clicks_to_parquet", source=source, folder=str(folder))

    written = ms.open_parquet(str(folder)).to_table().to_pandas()
    assert [path.name for path in folder.glob("day=*")] == ["day=2026-01-01"]
    assert sorted(written[["ts", "user", "page"]].itertuples(index=False)) == sorted(
        clicks[["ts", "user", "page"]].itertuples(index=False)
    )


def test_a_reading_is_in_an_average_or_late(stage: Stage) -> None:
    source, target, late = stage.topic(), stage.topic(), stage.topic()
    readings = []
    for run in range(2):
        start = START + run * RECORDS * timedelta(milliseconds=STEP_MS)
        readings.append(stage.fill(source, "readings", start, seed=run))
        stage.run("sensor_averages", source=source, target=target, late=late)

    averages, lost = stage.rows(target), stage.rows(late)
    both, reading = pd.concat(readings, ignore_index=True), ["sensor", "ts", "celsius"]
    in_time = ~pd.MultiIndex.from_frame(both[reading]).isin(pd.MultiIndex.from_frame(lost[reading]))
    windows = closed(both, "1min", "10s")
    groups = windows[in_time[windows.index]].groupby(["sensor", "window_start"], as_index=False)
    wanted = groups.agg(celsius=("celsius", "mean"), n=("celsius", "count"))
    columns = ["sensor", "window_start", "celsius", "n"]
    assert as_set(averages, columns) == as_set(wanted, columns)
    assert len(lost) > 0


def test_payments_carry_the_score_of_the_model(stage: Stage) -> None:
    source, payments = stage.filled("payments")
    target, model = stage.topic(), str(stage.folder / "risk.joblib")
    import_module("score_payments").train(model)

    stage.run("score_payments", source=source, target=target, model=model)

    payments["risk"] = joblib.load(model).predict_proba(payments[["amount", "hours"]])[:, 1]
    columns = ["card", "ts", "amount", "risk"]
    assert as_set(stage.rows(target), columns) == as_set(payments, columns)


def test_views_of_both_topics_are_counted_together(stage: Stage) -> None:
    web, in_web = stage.filled("clicks")
    app, in_app = stage.filled("clicks", seed=1)
    target = stage.topic()

    stage.run("views_of_two_topics", web=web, app=app, target=target)

    both = pd.concat([closed(in_web, "1min", "5s"), closed(in_app, "1min", "5s").assign(in_app=1)]).fillna(0)
    groups = both.groupby(["page", "window_start"], as_index=False)
    wanted = groups.agg(views=("page", "size"), in_app=("in_app", "sum"))
    columns = ["page", "window_start", "views", "in_app"]
    assert as_set(stage.rows(target), columns) == as_set(wanted, columns)


def test_an_example_is_one_command(broker: Broker, tmp_path: Path, feed: ModuleType) -> None:
    kind = feed.KINDS["bids"]
    topics = [unique(name) for name in (*kind.topics, *kind.results)]
    feed.create_topics(broker.bootstrap_servers, topics)
    feed.fill(broker.bootstrap_servers, topics[0], feed.made("bids", RECORDS, START, STEP_MS))
    command = [sys.executable, str(FOLDER / "bids_per_auction.py"), "--once", "--source", topics[0]]
    command += ["--target", topics[1], "--bootstrap-servers", broker.bootstrap_servers]

    environment = {**os.environ, "DASK_MICROSTREAM__WORKERS": "1"}
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120, env=environment)

    assert consume_all(broker, topics[1])


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_example_says_how_to_run_it(program: str, feed: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        import_module(program).main(["--help"])

    shown = capsys.readouterr().out
    assert f"python examples/{program}.py" in shown
    assert any(f"python examples/feed.py {kind}" in shown for kind in feed.KINDS)


def test_a_topic_is_filled_again_after_its_newest_record(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = stage.feed.KINDS["bids"]
    topic, results = unique("bids"), unique("totals")
    monkeypatch.setitem(stage.feed.KINDS, "bids", replace(kind, topics=(topic,), results=(results,)))
    arguments = ["bids", "--bootstrap-servers", stage.broker.bootstrap_servers, "--records", "100"]

    stage.feed.main(arguments)
    first = [record.timestamp for record in consume_all(stage.broker, topic)]
    stage.feed.main(arguments)
    both = [record.timestamp for record in consume_all(stage.broker, topic)]

    assert (len(first), len(both)) == (100, 200)
    assert sum(time_ms > max(first) for time_ms in both) == 100


def test_records_come_as_they_happen(feed: ModuleType) -> None:
    start = datetime.now(UTC) + timedelta(hours=1)

    live = feed.as_they_happen(feed.made("bids", None, start, step_ms=1))

    times = [next(live)[0] for _ in range(3)]
    assert [time_ms - times[0] for time_ms in times] == [0, 1, 2]
