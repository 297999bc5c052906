"""Names that are planned are refused with what to use until they are there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from distributed import Client

import microstream as ms
from microstream import later
from microstream.errors import AbsentError

FRAME = ms.from_pandas(pd.DataFrame({"x": [1], "ts": pd.to_datetime(["2026-01-01"])}), event_time="ts")
GROUPS = FRAME.groupby("x")
TABLES = {
    "module": later.MODULE,
    "frame": later.FRAME,
    "groups": later.GROUPS,
    "windowed": {name: later.GROUPS[name] for name in ("nlargest", "nsmallest", "apply")},
    "query": later.QUERY,
    "checkpoint": later.CHECKPOINT,
}


@pytest.fixture(scope="module")
def owners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    checkpoint = str(tmp_path_factory.mktemp("checkpoint"))
    with Client(processes=False, n_workers=1, dashboard_address=None, set_as_default=False) as client:
        query = ms.start(FRAME.to_null(), checkpoint=checkpoint, trigger=ms.available_now(), client=client)
        query.await_termination(60)
        yield {
            "module": ms,
            "frame": FRAME,
            "groups": GROUPS,
            "windowed": GROUPS.window(ms.tumbling("1s")),
            "query": query,
            "checkpoint": ms.open_checkpoint(checkpoint),
        }


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, table in TABLES.items() for name in table])
def test_a_name_that_is_planned_says_what_to_use_until_it_is_there(
    owners: dict[str, Any], owner: str, name: str
) -> None:
    with pytest.raises(ms.PlanError, match=rf" has no \.{name} in this version\. Instead: .+\.$"):
        getattr(owners[owner], name)

    assert not hasattr(owners[owner], name)


@pytest.mark.parametrize("owner", ["module", "query", "checkpoint"])
def test_any_other_name_is_just_absent(owners: dict[str, Any], owner: str) -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'") as caught:
        _ = owners[owner].nothing

    assert not isinstance(caught.value, ms.PlanError)


def test_what_is_planned_hides_no_column() -> None:
    frame = ms.from_pandas(pd.DataFrame({"why": [1], "live": [2]}))

    assert frame.assign(sum=frame.why + frame.live).compute()["sum"].tolist() == [3]


@pytest.mark.parametrize(("name", "says"), [("read_csv", r"ms\.read_files\(path\)"), ("read_sql", r"ms\.from_pandas")])
def test_a_reader_of_pandas_says_what_reads_here(name: str, says: str) -> None:
    with pytest.raises(AbsentError, match=f"microstream has no {name}. Instead: {says}"):
        getattr(ms, name)
