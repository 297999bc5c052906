"""Workers of a query's own cluster: forked, but as if they had been started anew."""

from __future__ import annotations

import os
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


BESIDE = """
import multiprocessing
import os
import sys
import pandas as pd
import microstream as ms

def seen():
    import mine
    print([os.environ.get(name) for name in ("OMP_NUM_THREADS", "PYTHONHASHSEED")], mine.PID == os.getppid())
    sys.stdout.flush()

if __name__ == "__main__":
    multiprocessing.set_forkserver_preload(["mine"])
    query = ms.from_pandas(pd.DataFrame({"n": [1]})).to_memory().start(trigger=ms.available_now())
    query.await_termination()
    process = multiprocessing.get_context("forkserver").Process(target=seen)
    process.start()
    process.join()
"""


def test_a_program_that_forks_processes_itself_has_a_fork_server_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import os\nPID = os.getpid()\n")
    script = tmp_path / "script.py"
    script.write_text(BESIDE)
    plain = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "PYTHONHASHSEED")}

    path = {"PYTHONPATH": str(tmp_path)}

    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, env=plain | path)

    assert (done.returncode, done.stdout) == (0, "[None, None] True\n"), done.stderr[-2_000:]


INTERRUPTED = """
import os
import signal
import threading
import pandas as pd
import microstream as ms

def press():
    while not started.wait(0.005):
        os.killpg(0, signal.SIGINT)

started = threading.Event()
signal.signal(signal.SIGINT, lambda *_: None)
threading.Thread(target=press).start()
query = ms.from_pandas(pd.DataFrame({"n": [1]})).to_memory().start(trigger=ms.available_now())
query.await_termination()
started.set()
print(len(query.table()))
"""


def test_ctrl_c_does_not_interrupt_processes_of_workers_that_start(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)

    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, start_new_session=True
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


NOWHERE = """
import multiprocessing
import pandas as pd
import microstream as ms

multiprocessing.set_executable("/nowhere/python")
try:
    ms.from_pandas(pd.DataFrame({"n": [1]})).to_memory().start(trigger=ms.available_now()).await_termination()
except ms.ConnectorError as problem:
    print(problem)
"""


def test_where_no_process_starts_the_error_says_of_which_program(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(NOWHERE)

    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr[-2_000:]
    assert "the local Dask cluster does not start: " in done.stdout
    assert "Processes of /nowhere/python must be able to start." in done.stdout


FAILING = """
import pandas as pd
import microstream as ms

def fail(frame):
    raise ValueError("no")

try:
    rows = ms.from_pandas(pd.DataFrame({"n": [1]})).map_batches(fail, schema={"n": "int64"})
    rows.to_memory().start(trigger=ms.available_now()).await_termination()
except ms.UserFunctionError as problem:
    print("told")
"""


def test_of_a_query_that_fails_nothing_is_printed_beside_its_error(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(FAILING)

    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)

    assert (done.returncode, done.stdout, done.stderr) == (0, "told\n", "")
