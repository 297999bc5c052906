"""Payments scored by a scikit-learn model, which each worker loads once.

    python examples/feed.py payments
    python examples/score_payments.py --train --once

`--train` makes a small model of random payments first, so that there is one to load. Workers on other machines need it
under the same path.
"""

from __future__ import annotations

import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from arguments import parser, run_options
from sklearn.linear_model import LogisticRegression

import microstream as ms

PAYMENT = {"card": "int64", "amount": "float64", "hours": "float64", "ts": "timestamp[ms]"}
FEATURES = ["amount", "hours"]


def train(path: str) -> None:
    """A model that finds large payments soon after the last one risky."""
    random = np.random.default_rng(0)
    past = pd.DataFrame({"amount": random.lognormal(3, 1, 1000), "hours": random.exponential(10, 1000)})
    fraud = past["amount"] / (1 + past["hours"]) > past["amount"].median()
    joblib.dump(LogisticRegression().fit(past[FEATURES], fraud), path)


def scorer(path: str) -> type:
    """A class for `map_batches`: made once per worker, called with every batch."""

    class Scorer:
        def __init__(self) -> None:
            self.model = joblib.load(path)

        def __call__(self, payments: pd.DataFrame) -> pd.DataFrame:
            return payments.assign(risk=self.model.predict_proba(payments[FEATURES])[:, 1])

    return Scorer


def main(arguments: list[str]) -> None:
    """Run until Ctrl-C, an error, or the end of what is there."""
    options = parser(__doc__, "score-payments", source="payments", target="scored-payments", model="risk.joblib")
    options.add_argument("--train", action="store_true")
    chosen = options.parse_args(arguments)
    if chosen.train:
        train(chosen.model)
    payments = ms.read_kafka(
        chosen.source, bootstrap_servers=chosen.bootstrap_servers, schema=PAYMENT, event_time="ts", start="earliest"
    )
    model = scorer(str(Path(chosen.model).resolve()))
    sink = payments.map_batches(model, schema={**PAYMENT, "risk": "float64"}).to_kafka(chosen.target, key="card")
    ms.start(sink, name="score-payments", **run_options(chosen)).await_termination()


if __name__ == "__main__":
    main(sys.argv[1:])
