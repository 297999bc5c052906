"""Names of everything a checkpoint stores, and the way back from a name to what it says.

A parser answers None for a name that is not of its kind: a foreign file in the folder is nobody's manifest.

>>> data_key(epoch=3, batch=18, kind="d", id="8c1f")
'data/00000003/0000000000000012-d-8c1f.arrow'
>>> seq_of(manifest_key(41)), seq_of("manifest/notes.txt")
(41, None)
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

from microstream.errors import PlanError

__all__ = [
    "DATA",
    "EPOCHS",
    "JOB",
    "MANIFESTS",
    "PINS",
    "SOURCES",
    "DataKey",
    "DataKind",
    "data_key",
    "data_of",
    "epoch_key",
    "epoch_of",
    "manifest_key",
    "pin_key",
    "pin_of",
    "seq_of",
    "source_entry_of",
    "source_key",
]

JOB = "job.json"
EPOCHS = "epoch/"
MANIFESTS = "manifest/"
PINS = "pins/"
DATA = "data/"
SOURCES = "source/"

DataKind = Literal["d", "c"]
"""A bundle of a batch (delta), or of a compaction."""

_EPOCH = re.compile(r"epoch/([0-9a-f]{8})")
_MANIFEST = re.compile(r"manifest/([0-9]{20})\.json\.zst")
_PIN = re.compile(r"pins/([A-Za-z0-9][A-Za-z0-9._-]{0,99})")
_DATA = re.compile(r"data/([0-9a-f]{8})/([0-9a-f]{16})-([dc])-([A-Za-z0-9]+)\.arrow")
_SOURCE_ENTRY = re.compile(r"source/[0-9a-f]{16}/([0-9]{20})\.json\.zst")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataKey:
    """What the name of a bundle says of it."""

    epoch: int
    batch: int
    kind: DataKind
    id: str


def epoch_key(epoch: int) -> str:
    """Where the owner of driver generation `epoch` is recorded."""
    return f"{EPOCHS}{epoch:08x}"


def manifest_key(seq: int) -> str:
    """Where manifest `seq` is; names sort as their numbers do."""
    return f"{MANIFESTS}{seq:020d}.json.zst"


def pin_key(name: str) -> str:
    """Where pin `name` is.

    Raises
    ------
    PlanError
        `name` cannot be part of an object's name on every store.
    """
    key = f"{PINS}{name}"
    if _PIN.fullmatch(key) is None:
        raise PlanError(
            f"pin {name!r}: a name has up to 100 letters, digits, '.', '_' and '-', and starts with a letter or digit.",
            pin=name,
        )
    return key


def data_key(*, epoch: int, batch: int, kind: DataKind, id: str) -> str:
    """Name of a bundle; `id` is a random hexadecimal number, so that no two attempts share one."""
    return f"{DATA}{epoch:08x}/{batch:016x}-{kind}-{id}.arrow"


def epoch_of(key: str) -> int | None:
    """The epoch whose owner is recorded at `key`."""
    found = _EPOCH.fullmatch(key)
    return int(found[1], 16) if found else None


def seq_of(key: str) -> int | None:
    """The number of the manifest at `key`."""
    found = _MANIFEST.fullmatch(key)
    return int(found[1]) if found else None


def pin_of(key: str) -> str | None:
    """The name of the pin at `key`."""
    found = _PIN.fullmatch(key)
    return found[1] if found else None


def data_of(key: str) -> DataKey | None:
    """What the name of the bundle at `key` says."""
    found = _DATA.fullmatch(key)
    if found is None:
        return None
    kind: DataKind = "d" if found[3] == "d" else "c"
    return DataKey(epoch=int(found[1], 16), batch=int(found[2], 16), kind=kind, id=found[4])


def source_key(source: str, entry: int | str) -> str:
    """Where entry number `entry` of the log of `source` is, or the single fact of that name.

    A source may be named by a path or by many topics, which is no part of an object's name: its hash is.
    """
    folder = hashlib.sha256(source.encode()).hexdigest()[:16]
    return f"{SOURCES}{folder}/{entry if isinstance(entry, str) else f'{entry:020d}'}.json.zst"


def source_entry_of(key: str) -> int | None:
    """The number of the source log's entry at `key`."""
    found = _SOURCE_ENTRY.fullmatch(key)
    return int(found[1]) if found else None
