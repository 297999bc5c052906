from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microstream.checkpoint.keys import (
    DataKey,
    DataKind,
    data_key,
    data_of,
    epoch_key,
    epoch_of,
    manifest_key,
    pin_key,
    pin_of,
    seq_of,
)

NUMBERS = st.integers(0, 2**32 - 1)
HEX = st.text("0123456789abcdef", min_size=1, max_size=32)


@given(number=NUMBERS)
def test_numbers_come_back_from_their_keys(number: int) -> None:
    assert epoch_of(epoch_key(number)) == number
    assert seq_of(manifest_key(number)) == number


@given(epoch=NUMBERS, batch=st.integers(0, 2**64 - 1), kind=st.sampled_from(["d", "c"]), id=HEX)
def test_bundles_come_back_from_their_keys(epoch: int, batch: int, kind: DataKind, id: str) -> None:
    key = data_key(epoch=epoch, batch=batch, kind=kind, id=id)

    assert data_of(key) == DataKey(epoch=epoch, batch=batch, kind=kind, id=id)


@given(one=NUMBERS, other=NUMBERS)
def test_keys_sort_as_their_numbers_do(one: int, other: int) -> None:
    assert (manifest_key(one) < manifest_key(other)) == (one < other)
    assert (epoch_key(one) < epoch_key(other)) == (one < other)


def test_names_come_back_from_pins() -> None:
    assert pin_of(pin_key("before-upgrade.2")) == "before-upgrade.2"


@pytest.mark.parametrize(
    "key",
    ["", "job.json", "manifest/", "manifest/1", "manifest/00000000000000000001.json", "epoch/1", "epoch/0000000g",
     "data/00000001/x.arrow", "data/00000001/0000000000000001-x-aa.arrow", "pins/", "pins/.x", "pins/a/b",
     "manifest/00000000000000000001.json.zst.bak", "manifest/00000000000000000001.json.zst\n"],
)  # fmt: skip
def test_foreign_files_are_nothing_of_ours(key: str) -> None:
    assert (epoch_of(key), seq_of(key), data_of(key), pin_of(key)) == (None, None, None, None)
