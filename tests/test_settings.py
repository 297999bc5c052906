from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from microstream.errors import SettingError
from microstream.settings import Settings

NAMES = [f.name for f in fields(Settings)]
MAY_BE_ZERO = {"workers", "takeover_watch_us", "call_below_us"}


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_a_lower_bound(name: str) -> None:
    least = 0 if name in MAY_BE_ZERO else 1

    assert getattr(Settings(**{name: least}), name) == least
    with pytest.raises(SettingError, match=f"microstream.{name.removesuffix('_us')}=.*at least {least}"):
        Settings(**{name: least - 1})


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_can_be_written_as_users_write_it(name: str) -> None:
    value, expected = ("2s", 2_000_000) if name.endswith("_us") else (2, 2)
    written = name.removesuffix("_us").replace("_", "-")

    assert getattr(Settings.of({written: value}), name) == expected
    assert Settings.of({written.replace("-", "_"): value}) == Settings.of({written: value})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"max_recods": 5}, "there is no such setting. There are: .*max_records"),
        ({"poll_us": 5}, "there is no such setting"),
        ({"max_records": "5"}, "must be a whole number"),
        ({"max_records": 5.0}, "must be a whole number"),
        ({"max_records": True}, "must be a whole number"),
        ({"poll": 10}, "microstream.poll=10 is not a duration"),
        ({"poll": "10"}, "microstream.poll='10' is not a duration"),
        ({"poll": "-1s"}, "zero or more"),
        ({"poll": "0s"}, "microstream.poll=0: must be at least 1"),
    ],
)
def test_a_setting_that_is_not_possible_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        Settings.of(values)


def test_nothing_given_means_the_defaults() -> None:
    assert Settings.of({}) == Settings()


def test_every_setting_is_explained_where_it_is_defined() -> None:
    described = [line.strip() for line in (Settings.__doc__ or "").splitlines()]

    assert [name for name in NAMES if name not in described] == []
