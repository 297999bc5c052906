"""How long a user waits before the first result: importing, the command's help, compute(), a local query.

    python benchmarks/startup.py --runs 5

Seconds from the start of a fresh Python, median of the runs; of a query that is started again, from `start()`.
`pandas` is a program that imports pandas and ends, to read the others by: most of what they do is importing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS = """
import numpy as np
import pandas as pd
import microstream as ms

times = pd.date_range("2026-01-01", periods=1000, freq="1s")
frame = pd.DataFrame({"key": np.arange(1000) % 7, "value": np.arange(1000.0), "at": times})
rows = ms.from_pandas(frame, event_time="at", watermark="10s")
totals = rows.groupby("key").window(ms.tumbling("1min")).agg(total=("value", "sum"))
"""
COMPUTE = f"{ROWS}\nassert len(totals.compute()) == 119"
QUERY = f"""
import time
{ROWS}
def first_result():
    began = time.time()
    query = totals.to_memory().start(name="first")
    while not len(query.table()):
        time.sleep(0.005)
    ended = time.time()
    query.stop()
    return began, ended

[(_, first), (began, again)] = first_result(), first_result()
print(first, again - began)
"""
PROGRAMS = {
    "python": "pass",
    "pandas": "import pandas",
    "import": "import microstream",
    "help": "from microstream.cli import main; main(['--help'])",
    "compute": COMPUTE,
}

# Nobody compiles the library anew at each start.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def seconds(program: str) -> float:
    """From start to end of a Python that runs `program`."""
    began = time.time()
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    return time.time() - began


def query_seconds(folder: Path) -> tuple[float, float]:
    """Until the first result of a query of a new program, and of the same query started again."""
    script = folder / "query.py"
    script.write_text(QUERY)
    began = time.time()
    done = subprocess.run([sys.executable, str(script)], check=True, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    first_at, again_s = map(float, done.stdout.split())
    return first_at - began, again_s


def main() -> None:
    """Run every program in turn, as often as asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for program in PROGRAMS.values():
            seconds(program)  # Compiles, and reads everything from the disk once.
        for _ in range(asked.runs):
            for name, program in PROGRAMS.items():
                found.setdefault(name, []).append(seconds(program))
            first_s, again_s = query_seconds(Path(folder))
            found.setdefault("query", []).append(first_s)
            found.setdefault("query_again", []).append(again_s)
    print(json.dumps({f"{name}_s": round(statistics.median(values), 2) for name, values in found.items()}))


if __name__ == "__main__":
    main()
