"""The driver's view of files: lists them, writes down what is new, and says how far the offsets go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from microstream.checkpoint.source_log import SourceLog
from microstream.clock import Clock
from microstream.connectors.files.journal import FILES_PER_ENTRY, Journal, Listed, following, name_of
from microstream.connectors.files.listing import LOCAL, Found, filesystem_of, find, is_glob
from microstream.connectors.protocol import Bounds
from microstream.errors import ConnectorError

__all__ = ["FileProbe"]

LISTING_SHARE = 20
"""A folder is listed so rarely that it takes a twentieth of the time."""
QUICK_US = 2_000
"""A listing that takes less is done whenever somebody asks: what was written before the question is in the answer."""
GONE_KEPT = 100_000
"""So many files that were removed are remembered, in case they come back."""
REMOTE_EVERY_US = 5_000_000
"""Buckets charge for each listing."""


class FileProbe:
    """See `microstream.connectors.protocol.Probe`.

    Parameters
    ----------
    paths
        Files, folders and globs, in the order in which they are read.
    watch
        Whether to go on looking for new files; else what is there at the first look is all.
    on_data_loss
        "fail": a file that was replaced after it was found is an error; "skip": it is not looked at again.
    """

    def __init__(
        self,
        paths: Sequence[str],
        storage_options: Mapping[str, Any],
        log: SourceLog,
        clock: Clock,
        *,
        watch: bool,
        on_data_loss: Literal["fail", "skip"],
    ) -> None:
        self._paths, self._watch, self._on_data_loss = tuple(paths), watch, on_data_loss
        self._files = filesystem_of(paths, storage_options)
        self._is_local = LOCAL in _protocols(self._files)
        self._journal, self._clock = Journal(log), clock
        self._next: int | None = None
        self._known: dict[str, Listed] = {}
        self._there: set[str] | None = None
        """Paths of the last look; None before the first."""
        self._ends: dict[str, int] = {}
        self._due_us: int | None = None
        """When to look again; None before the first look."""

    def start_offsets(self, start: str) -> Mapping[str, int]:
        """Where a new query begins, of the files that are known already; nothing is written down yet."""
        self._catch_up()
        self._there = {one.path for one in self._look()}
        lows = self._lows()
        return lows if start == "earliest" else {name: self._ends.get(name, 0) for name in lows}

    def bounds(self) -> Mapping[str, Bounds]:
        """Offsets of all files found until now, from the oldest one that is still there."""
        if self._due_us is None or (self._watch and self._clock.now_us() >= self._due_us):
            self._update()
        return {
            name: Bounds(low=low, end=self._ends.get(name, 0), finished=not self._watch, first=0)
            for name, low in self._lows().items()
        }

    def ends(self) -> None:
        """Asking for all costs no more."""

    def identity(self) -> Mapping[str, str]:
        """Unknown: each file has an identity of its own."""
        return {}

    def offsets_at(self, time_us: int, partitions: Sequence[str]) -> Mapping[str, int | None]:
        """Files do not say which times are in them."""
        return dict.fromkeys(partitions)

    def unstable_ends(self) -> Mapping[str, int]:
        """The ends: what is being written has a hidden name."""
        return dict(self._ends)

    def close(self) -> None:
        """Nothing to let go of."""

    def _update(self) -> None:
        self._catch_up()
        began_us = self._clock.now_us()
        found = self._look()
        took_us = self._clock.now_us() - began_us
        self._compare(found)
        self._there = {one.path for one in found}
        self._forget_oldest()
        while new := [one for one in found if one.path not in self._known]:
            self._add(new[:FILES_PER_ENTRY])
        pause_us = 0 if took_us < QUICK_US else LISTING_SHARE * took_us
        self._due_us = began_us + (pause_us if self._is_local else max(pause_us, REMOTE_EVERY_US))

    def _look(self) -> list[Found]:
        """All files now: path by path as they were given, each by time of change, then by name."""
        found: dict[str, Found] = {}
        for path in self._paths:
            there = find(self._files, path, required=not self._watch or (self._is_local and not is_glob(path)))
            for one in sorted(there, key=lambda file: (file.modified_s, file.path)):
                found.setdefault(one.path, one)
        return list(found.values())

    def _catch_up(self) -> None:
        """Take in entries that were written before, or by another driver meanwhile."""
        if self._next is None:
            self._next = self._journal.last_snapshot()
        while (entry := self._journal.get(self._next)) is not None:
            if entry.known is not None:
                self._known = {file.path: file for file in entry.known}
            self._known |= {file.path: file for file in entry.files}
            self._ends = dict(entry.ends)
            self._next += 1

    def _add(self, new: Sequence[Found]) -> None:
        number = self._next or 0
        entry = following(number, new, self._still_there(), self._ends)
        if self._journal.add(number, entry):
            self._known |= {file.path: file for file in entry.files}
            self._ends, self._next = dict(entry.ends), number + 1
        else:
            self._catch_up()

    def _still_there(self) -> list[Listed]:
        return [file for file in self._known.values() if self._there is None or file.path in self._there]

    def _compare(self, found: Sequence[Found]) -> None:
        """Refuse files that were changed in their place. One that was gone and came back is known if it is the same."""
        for one in found:
            before = self._known.get(one.path)
            if before is None or (before.size, before.version) == (one.size, one.version):
                continue
            if self._there is not None and one.path not in self._there:
                del self._known[one.path]
            elif self._on_data_loss == "fail":
                raise changed_file(one.path)

    def _forget_oldest(self) -> None:
        """Bound what is known: files that are there, and some that were; a listing may miss one for a while."""
        gone = [path for path in self._known if path not in (self._there or ())]
        for path in gone[: max(0, len(gone) - GONE_KEPT)]:
            del self._known[path]

    def _lows(self) -> dict[str, int]:
        """First offset of each partition whose file is still there; the end, if all are gone."""
        lows = dict(self._ends) or {name_of(0): 0}
        there = self._known if self._there is None else self._there & self._known.keys()
        for file in map(self._known.__getitem__, there):
            lows[file.partition] = min(lows[file.partition], file.first)
        return lows


def changed_file(path: str) -> ConnectorError:
    """The error for a file whose content is another than when it was found."""
    return ConnectorError(
        f"{path} was changed after it was found: rows of it may have been read. Write files under a hidden name (_ or "
        ". first) and rename them when they are complete; give new content a new name. To go on and leave it at what "
        "was read, use on_data_loss='skip'.",
        path=path,
    )


def _protocols(files: Any) -> tuple[str, ...]:
    protocol = files.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)
