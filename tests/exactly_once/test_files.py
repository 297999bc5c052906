"""A watched folder to a Parquet folder, with real processes that are killed at random moments of their work."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from chaos import FULL
from processes import Program, until

import microstream as ms

pytestmark = pytest.mark.timeout(1_800)

APP = Path(__file__).with_name("files_app.py")
KILLS = 20 if FULL else 3
FILES = 3
"""Files that are added before each blow."""

ROWS = 3_000
"""Rows of each file."""

STRIDES = {
    "checkpoint/manifest/*": 6,
    "checkpoint/data/**/*.arrow": 6,
    "table/**/*.parquet": 6,
    "table/_microstream/*": 3,
}
"""Paths whose number grows as the query goes on, and by how much, at most, before the blow."""


@dataclass(slots=True)
class Watched:
    """A folder that is fed with rows 0, 1, 2, ..., and runs of the query that copies them."""

    root: Path
    options: tuple[str, ...]
    fed: int = 0
    runs: int = 0

    def feed(self) -> None:
        """Some new files; each appears whole."""
        for _ in range(FILES):
            rows = range(self.fed, self.fed + ROWS)
            hidden, path = self.root / "next", self.root / "in" / f"{self.fed}.json"
            hidden.write_text("".join(json.dumps({"n": n, "odd": n % 2 == 1}) + "\n" for n in rows))
            hidden.rename(path)
            self.fed += ROWS

    @contextmanager
    def running(self) -> Iterator[Program]:
        """One run, which is not left behind."""
        places = [f"--{name}={self.root / path}" for name, path in PLACES.items()]
        program = Program([*places, *self.options], self.root / f"run-{self.runs}.log", APP)
        self.runs += 1
        try:
            yield program
        finally:
            if program.is_running:
                program.kill()

    def await_progress(self, program: Program, reached: Callable[[], bool]) -> None:
        """Return when `reached`, or when all that was fed is visible."""

        def holds() -> bool:
            assert program.is_running, f"the query ended by itself:\n{program.last_words()}"
            return reached() or self.visible() >= self.fed

        until(holds, "progress")

    def visible(self) -> int:
        """Rows that readers find, as the log of the table says."""
        entries = [json.loads(path.read_bytes()) for path in self.root.glob("table/_microstream/0*.json")]
        return sum(file["rows"] for entry in entries for file in entry["files"])

    def count(self, pattern: str) -> int:
        return sum(1 for _ in self.root.glob(pattern))


PLACES = {"folder": "in", "table": "table", "checkpoint": "checkpoint"}


@pytest.mark.parametrize("options", [(), ("--every=1s",)], ids=["files-per-batch", "rolled-files"])
def test_a_killed_query_writes_each_line_of_a_watched_folder_once(tmp_path: Path, options: tuple[str, ...]) -> None:
    watched, chance = Watched(tmp_path, options), random.Random(1)
    (tmp_path / "in").mkdir()

    for _ in range(KILLS):
        watched.feed()
        pattern, stride = chance.choice(sorted(STRIDES.items()))
        goal = watched.count(pattern) + chance.randint(1, stride)
        with watched.running() as program:
            watched.await_progress(program, lambda pattern=pattern, goal=goal: watched.count(pattern) >= goal)
            program.kill()
    watched.feed()
    with watched.running() as program:
        watched.await_progress(program, lambda: False)
        program.ask_to_stop()
        until(lambda: not program.is_running, "the query to stop")

    assert program.exit_code == 0, program.last_words()
    table = ms.open_parquet(str(tmp_path / "table")).to_table()
    assert sorted(table["n"].to_pylist()) == list(range(watched.fed))
    if options:
        assert ds.dataset(str(tmp_path / "table")).count_rows() == watched.fed, (
            "a roll has the same files, whoever writes"
        )
