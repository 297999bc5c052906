"""Workers of a query's own cluster: forked, but as if they had been started anew."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import pandas as pd
import microstream as ms

def half(frame):
    return frame.assign(n=frame["n"] / 2)

print("started")
rows = ms.from_pandas(pd.DataFrame({"n": [2.0, 4.0]})).map_batches(half)
query = rows.to_memory().start(name="script", trigger=ms.available_now())
query.await_termination()
print(sorted(query.table()["n"]))
"""


def test_a_script_needs_no_main_guard_and_runs_in_no_worker(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr[-2_000:]
    assert done.stdout.splitlines() == ["started", "[1.0, 2.0]"]


SURROUNDINGS = """
import os
import dask
import numpy as np
import pandas as pd
import microstream as ms

def seen(frame):
    variables = [os.environ.get(name) for name in ("FIRST", "SECOND", "CHANGED")]
    return pd.DataFrame({"worker": [os.getpid()], "variables": [str(variables)], "random": [np.random.random()]})

def shown(name):
    inputs = [ms.from_pandas(pd.DataFrame({"n": [n]}), name=f"input-{n}") for n in range(4)]
    rows = ms.concat(inputs).map_batches(seen, schema={"worker": "int64", "variables": "str", "random": "float64"})
    query = rows.to_memory().start(name=name, trigger=ms.available_now())
    query.await_termination()
    table = query.table()
    print(os.getpid() in set(table["worker"]), *set(table["variables"]))
    firsts = table.groupby("worker")["random"].first()
    print(len(firsts), firsts.nunique())

dask.config.set({"microstream.workers": 2})
os.environ.update(FIRST="1", CHANGED="1")
shown("first")
del os.environ["FIRST"]
os.environ.update(SECOND="2", CHANGED="2")
shown("second")
"""


def test_each_query_s_workers_see_the_environment_of_its_start_and_draw_numbers_of_their_own(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SURROUNDINGS)

    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr[-2_000:]
    assert done.stdout.splitlines() == ["False ['1', None, '1']", "2 2", "False [None, '2', '2']", "2 2"]
