from __future__ import annotations

import pickle
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream import errors
from microstream.errors import (
    MAX_MESSAGE_CHARS,
    CheckpointError,
    ConnectorError,
    MicrostreamError,
    PlanError,
    SettingError,
    UnreachableError,
    UserFunctionError,
    packed,
    unpacked,
)

KINDS = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]


class TwoArguments(Exception):
    """As user code writes them: pickle calls it with one argument, so it cannot be rebuilt."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=20)
@given(message=st.text(max_size=2_000), lane=st.integers(), where=st.text(max_size=20))
def test_every_error_survives_pickling_with_its_message_fields_and_cause(
    kind: type[MicrostreamError], message: str, lane: int, where: str
) -> None:
    error = kind(message, lane=lane, where=where)
    error.__cause__ = ZeroDivisionError("division by zero")

    for again in (pickle.loads(pickle.dumps(error)), unpacked(packed(error))):
        assert type(again) is kind
        assert str(again) == str(error)
        assert (again.lane, again.where) == (lane, where)
        assert repr(again.__cause__) == "ZeroDivisionError('division by zero')"


def test_an_error_without_a_cause_has_none_afterwards() -> None:
    assert pickle.loads(pickle.dumps(PlanError("no"))).__cause__ is None


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (TwoArguments(7, "model is cold"), "TwoArguments: model is cold"),
        (ValueError("locked", threading.Lock()), "ValueError: "),
    ],
    ids=["constructor with other arguments", "holds a lock"],
)
def test_a_cause_that_cannot_travel_is_told_in_words(cause: Exception, said: str) -> None:
    error = UserFunctionError("query q: score failed", operator="score")
    error.__cause__ = cause

    again = unpacked(packed(error))

    assert (type(again), again.operator) == (UserFunctionError, "score")
    assert str(again.__cause__).startswith(said)


def test_long_messages_are_clipped_so_that_dask_does_not_replace_the_error() -> None:
    message = str(MicrostreamError("x" * 50_000))

    assert len(message) == MAX_MESSAGE_CHARS
    assert message.endswith("x…")


def test_a_field_that_is_not_there_is_an_attribute_error_of_this_class() -> None:
    error = ConnectorError("away", topic="bids")

    assert error.topic == "bids"
    with pytest.raises(AttributeError, match="ConnectorError has no attribute 'partition'"):
        _ = error.partition


@pytest.mark.parametrize(("kind", "also"), [(PlanError, ValueError), (SettingError, ValueError)])
def test_mistakes_of_the_user_are_value_errors(kind: type[Exception], also: type[Exception]) -> None:
    assert issubclass(kind, also)


def test_being_away_is_a_kind_of_connector_error() -> None:
    assert issubclass(UnreachableError, ConnectorError)


def test_an_unknown_column_names_the_likeliest_one_and_all_there_are() -> None:
    error = PlanError.unknown_column("groupby", "auctoin", ["price", "auction"])

    assert "Did you mean 'auction'?" in str(error)
    assert "price, auction" in str(error)
    assert (error.column, error.columns) == ("auctoin", ("price", "auction"))


def test_a_column_like_no_other_gets_no_suggestion() -> None:
    assert "Did you mean" not in str(PlanError.unknown_column("groupby", "zzz", ["price"]))


def test_a_checkpoint_error_tells_all_problems_at_once() -> None:
    error = CheckpointError.of("folder", iter(["one is gone", "two is torn"]), "Restore it.")

    assert str(error) == "folder: one is gone; two is torn. Restore it."
    assert error.problems == ("one is gone", "two is torn")
    assert error.checkpoint == "folder"
