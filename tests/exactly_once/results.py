"""What the query must publish, what it did publish, and the difference in words."""

from __future__ import annotations

import json
from dataclasses import dataclass

import duckdb
import pandas as pd
from bids import Bids

from microstream.testing.kafka import Broker, consume_all

__all__ = ["Results", "assert_conserved", "assert_same", "expected", "published"]

COUNTS = """
    select auction, "dateTime" // 10000 * 10000 + 10000 as window_end,
           count(*) as n, sum(price)::bigint as total, max(price) as top
    from bids group by all
"""
TOTALS = """
    select auction, count(*) as n, sum(price)::bigint as total, max(price) as top from bids group by all
"""
BUSIEST = """
    select (window_end - 1) // 60000 * 60000 + 60000 as window_end, max(n) as most, sum(n)::bigint as "all"
    from counts group by all
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Rows of the three topics, with `window_end` in epoch milliseconds; `key` is that of `counts` and `totals`.

    Of `totals`, whose rows replace one another, the last of each key.
    """

    key: str
    counts: pd.DataFrame
    busiest: pd.DataFrame
    totals: pd.DataFrame


def expected(bids: Bids) -> Results:
    """What DuckDB says of all bids at once."""
    connection = duckdb.connect()
    connection.register("bids", bids.table())
    counts = connection.sql(COUNTS).df()
    return Results(key="auction", counts=counts, busiest=busiest_of(counts), totals=connection.sql(TOTALS).df())


def busiest_of(counts: pd.DataFrame) -> pd.DataFrame:
    """The second aggregation over the rows of the first."""
    connection = duckdb.connect()
    connection.register("counts", counts)
    return connection.sql(BUSIEST).df()


def published(broker: Broker, out: str, out2: str, out3: str, *, key: str) -> Results:
    """What a read_committed consumer finds in the topics. A total that did not grow is an error."""
    counts = _rows(broker, out, [key, "window_end", "n", "total", "top"])
    busiest = _rows(broker, out2, ["window_end", "most", "all"])
    totals = _rows(broker, out3, [key, "n", "total", "top"])
    shrunk = totals[totals.groupby(key)["n"].diff() <= 0]
    assert shrunk.empty, f"{len(shrunk)} totals came again or are older than the one before:\n{shrunk.head(10)}"
    return Results(key=key, counts=counts, busiest=busiest, totals=totals.drop_duplicates(key, keep="last"))


def assert_same(found: Results, wanted: Results) -> None:
    """No row is missing, none is there twice, and every value is exact."""
    _compare(found.counts, wanted.counts, [wanted.key, "window_end"])
    _compare(found.busiest, wanted.busiest, ["window_end"])
    _compare(found.totals, wanted.totals, [wanted.key])


def assert_conserved(found: Results, bids: Bids) -> None:
    """Whatever keys were drawn: each bid counts in exactly one row, and all topics tell of the same draw."""
    per_window = ["window_end", "n", "total", "top"]
    how = {"n": "sum", "total": "sum", "top": "max"}

    _assert_no_twins(found.counts, [found.key, "window_end"])
    drawn = found.counts.groupby("window_end", as_index=False).agg(how)
    wanted = expected(bids).counts.groupby("window_end", as_index=False).agg(how)
    _compare(drawn[per_window], wanted[per_window], ["window_end"])
    _compare(found.busiest, busiest_of(found.counts), ["window_end"])
    _compare(found.totals, found.counts.groupby(found.key, as_index=False).agg(how), [found.key])


def _rows(broker: Broker, topic: str, columns: list[str]) -> pd.DataFrame:
    records = [json.loads(record.value or b"null") for record in consume_all(broker, topic)]
    frame = pd.DataFrame(records, columns=["window_start", *columns])
    if "window_end" not in columns:
        return frame[columns]
    end = pd.to_datetime(frame["window_end"], utc=True).astype("datetime64[ms, UTC]")
    return frame.assign(window_end=end.astype("int64"))[columns]


def _assert_no_twins(found: pd.DataFrame, identity: list[str]) -> None:
    twins = found[found.duplicated(identity, keep=False)].sort_values(identity)
    assert twins.empty, f"{len(twins)} rows share their key and window:\n{twins.head(10)}"


def _compare(found: pd.DataFrame, wanted: pd.DataFrame, identity: list[str]) -> None:
    _assert_no_twins(found, identity)
    both = wanted[identity].merge(found[identity], how="outer", indicator=True)
    missing, surplus = both[both["_merge"] == "left_only"], both[both["_merge"] == "right_only"]
    assert missing.empty, f"{len(missing)} of {len(wanted)} rows are missing:\n{missing.head(10)}"
    assert surplus.empty, f"{len(surplus)} rows should not be there:\n{surplus.head(10)}"
    pd.testing.assert_frame_equal(
        found.sort_values(identity).reset_index(drop=True),
        wanted.sort_values(identity).reset_index(drop=True)[found.columns],
        check_dtype=False,
        check_exact=True,
    )
