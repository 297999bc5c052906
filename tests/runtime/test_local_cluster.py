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
