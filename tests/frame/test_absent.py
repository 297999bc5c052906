from __future__ import annotations

import copy
import pickle
from typing import Any

import pandas as pd
import pytest

import microstream as ms
from microstream import later
from microstream.errors import PlanError
from microstream.frame import absent as table
from microstream.frame.columns import Column

FRAME = ms.from_pandas(pd.DataFrame({"x": [1]}))


def public(owner: type) -> list[str]:
    return [name for name in dir(owner) if not name.startswith("_")]


@pytest.mark.parametrize("name", [n for n in public(pd.DataFrame) if not hasattr(ms.StreamFrame, n)])
def test_every_name_of_a_pandas_frame_that_a_stream_lacks_names_its_replacement(name: str) -> None:
    assert name in table._FRAME or name in later.FRAME
    with pytest.raises(PlanError, match=rf"no \.{name}( in this version)?\. Instead: ."):
        getattr(FRAME, name)


@pytest.mark.parametrize("name", [n for n in public(pd.Series) if not hasattr(Column, n)])
def test_every_name_of_a_pandas_series_that_a_column_lacks_names_its_replacement(name: str) -> None:
    assert name in table._COLUMN
    with pytest.raises(PlanError, match=rf"\.{name} is not available.*Instead: ."):
        getattr(ms.col("x"), name)


def test_what_is_absent_is_absent_for_whoever_asks_first() -> None:
    assert not hasattr(FRAME, "sort_values")
    assert getattr(ms.col("x"), "name", None) is None
    assert not hasattr(FRAME, "no_such_name")


@pytest.mark.parametrize("value", [FRAME, ms.col("x") + 1])
def test_copies_are_possible_where_attributes_are_refused(value: Any) -> None:
    copies = [copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))]

    assert [repr(each) for each in copies] == [repr(value)] * 3


def test_a_refusal_survives_pickling() -> None:
    with pytest.raises(PlanError) as caught:
        _ = FRAME.iloc

    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
