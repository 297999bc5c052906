"""State whose rows are replaced, of one (operator, lane): runs of whole rows, of which the newest wins.

A row is known by its *identity*: the key columns, and `window_end` where there are windows. Each run has one row per
identity, sorted by a hash of it, so that a batch finds what it changes by binary search; the hash only finds
candidates, the identity decides. A batch writes the rows that it touched, in full, as one run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from microstream.clock import BEGINNING_US, END_US
from microstream.errors import InternalError
from microstream.plan.nodes import REVISION
from microstream.plan.sameness import same_values
from microstream.plan.specs import OutputMode
from microstream.state.hashing import HASH_BITS, Hashes, hash_keys
from microstream.state.lane import END, Merge
from microstream.state.tiers import MOST, tier

__all__ = ["Identity", "Rules", "UpsertRun", "UpsertState", "UpsertStep", "current", "step"]

Ints: TypeAlias = npt.NDArray[np.int64]
Truths: TypeAlias = npt.NDArray[np.bool_]
Changed: TypeAlias = Callable[[pa.Table, pa.Table, Ints], Truths]
"""(rows before a batch, rows after it, where the former are among the latter) -> which of the latter read otherwise."""

Sorted: TypeAlias = tuple[pa.Table, Hashes]
"""Rows by ascending hash, and their hashes."""

NOTHING: Final = np.zeros(0, np.int64)
NO_ROWS: Final = np.zeros(0, np.bool_)

_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)
"""Spreads the ends of windows over all bits of a hash: 2**64 / golden ratio, which is odd."""

CROWDED: Final = 3
"""Times the rows of its largest run that a lane holds at most; else keys that change often fill every tier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What tells rows apart; `bits` as in `hashing.hash_keys`."""

    keys: tuple[str, ...]
    windowed: bool
    bits: int = HASH_BITS

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return (*self.keys, END) if self.windowed else self.keys

    def hashes(self, table: pa.Table) -> Hashes:
        """One per row, equal for equal identities."""
        hashes = hash_keys(table, self.keys, bits=self.bits)
        if not self.windowed:
            return hashes
        return hashes + table.column(END).to_numpy().view(np.uint64) * _SPREAD

    def same(self, left: pa.Table, at: Ints, right: pa.Table, other: Ints) -> Truths:
        """Whether row `at[i]` of `left` and row `other[i]` of `right` are one."""
        same = np.ones(len(at), np.bool_)
        for name in self.names:
            same &= same_values(left.column(name).take(at), right.column(name).take(other))
        return same


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How the rows of an operator are told apart, put together and compared, and which of them it gives.

    `mode` "update" gives the rows that changed, "complete" all there are; "append" those of windows that close and,
    with the next number in column `REVISION`, those that changed after that (semantics 13).
    """

    identity: Identity
    mode: OutputMode
    merge: Merge
    changed: Changed

    def gone_us(self, closed_before_us: int) -> int | None:
        """Windows that end at or before it are forgotten; None: nothing is."""
        return closed_before_us if self.identity.windowed and self.mode != "complete" else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UpsertRun:
    """Rows that a batch left. (`batch`, `lo`) names the run in the manifest.

    Attributes
    ----------
    table
        One row per identity, by ascending hash; some may have been replaced by newer runs.
    hashes
        One per row.
    min_end_us, max_end_us
        First and last window end; the end of time where there are no windows.
    """

    batch: int
    lo: int
    level: int
    table: pa.Table
    hashes: Hashes
    min_end_us: int
    max_end_us: int
    nbytes: int

    @classmethod
    def of(
        cls, table: pa.Table, identity: Identity, *, batch: int, lo: int, level: int, hashes: Hashes | None = None
    ) -> UpsertRun:
        """A run of `table`, sorted unless `hashes` of its rows, which ascend, are given."""
        if hashes is None:
            hashes = identity.hashes(table)
            order = np.argsort(hashes, kind="stable")
            table, hashes = table.take(order), hashes[order]
        table = table.combine_chunks()
        ends = table.column(END).to_numpy() if identity.windowed and table.num_rows else np.array([END_US])
        return cls(
            batch=batch,
            lo=lo,
            level=level,
            table=table,
            hashes=hashes,
            min_end_us=int(ends.min()),
            max_end_us=int(ends.max()),
            nbytes=table.nbytes + hashes.nbytes,
        )

    @property
    def key(self) -> tuple[int, int]:
        """(`batch`, `lo`), unique within an operator."""
        return self.batch, self.lo

    @property
    def rows(self) -> int:
        """Rows held, those that newer runs replaced included."""
        return self.table.num_rows

    def between(self, after_us: int, until_us: int) -> Sorted | None:
        """Rows of windows that end after `after_us` and at or before `until_us`; None for none."""
        if not self.rows or self.max_end_us <= after_us or self.min_end_us > until_us:
            return None
        if self.min_end_us > after_us and self.max_end_us <= until_us:
            return self.table, self.hashes
        ends = self.table.column(END).to_numpy()
        wanted = (ends > after_us) & (ends <= until_us)
        return (self.table.filter(pa.array(wanted)), self.hashes[wanted]) if wanted.any() else None

    def find(self, wanted: pa.Table, hashes: Hashes, identity: Identity) -> tuple[Ints, Ints]:
        """Which rows of `wanted`, whose hashes ascend, are in the run, and where: at most one each."""
        if not self.rows:
            return NOTHING, NOTHING
        first = np.searchsorted(self.hashes, hashes, side="left")
        # Most searches find nothing; only the others look where the rows of their hash end.
        hits = np.flatnonzero((first < self.rows) & (self.hashes[np.minimum(first, self.rows - 1)] == hashes))
        first = first[hits]
        count = np.searchsorted(self.hashes, hashes[hits], side="right") - first
        which = np.repeat(hits, count)
        starts = np.cumsum(count) - count
        where = np.arange(len(which)) + np.repeat(first - starts, count)
        same = identity.same(wanted, which, self.table, where)
        return which[same], where[same]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UpsertState:
    """Everything one lane of one operator remembers between two batches: `runs` in order of (batch, lo).

    Windows that end at or before `closed_before_us` take no more rows; unless the operator keeps them, theirs do not
    count. Those that end at or before `watermark_us` have closed, which is later by the lateness that is allowed.
    """

    lo: int
    closed_before_us: int
    watermark_us: int
    runs: tuple[UpsertRun, ...] = ()

    @property
    def rows(self) -> int:
        """Rows held; an identity may have one in several runs."""
        return sum(run.rows for run in self.runs)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows and their hashes."""
        return sum(run.nbytes for run in self.runs)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UpsertStep:
    """What one batch does to a lane.

    Attributes
    ----------
    state
        After the batch.
    given
        Rows that the operator emits by its output mode; None for none.
    added
        The one run to store, also the newest of `state`; None when the batch leaves none.
    dropped
        (batch, lo) of runs to remove from the manifest: of windows that ended, or merged into `added`.
    """

    state: UpsertState
    given: pa.Table | None
    added: UpsertRun | None
    dropped: tuple[tuple[int, int], ...]


def step(
    state: UpsertState,
    delta: pa.Table | None,
    rules: Rules,
    *,
    watermark_us: int,
    closed_before_us: int,
    batch: int,
    most_runs: int = MOST,
    unique: bool = False,
) -> UpsertStep:
    """Take in a batch's partials, and forget windows that take no more rows, unless all are wanted in every batch.

    The cost is that of the rows that come, and of those that are due for merging, never of all held; but for whole
    results, and for windows that close while they may change, whose ends are looked for in all rows.

    Parameters
    ----------
    state
        After the previous batch; not changed.
    delta
        Partials of the batch for this lane, in any order, also several per identity; None for none.
    rules
        Of the operator.
    watermark_us
        W(N) of the operator's input; it never falls.
    closed_before_us
        Windows that end at or before it take no more rows after this batch; it never falls.
    batch
        Id of the batch, greater than that of any run.
    most_runs
        How many runs the lane may have.
    unique
        Whether `delta` has one row per identity.
    """
    gone_us = rules.gone_us(closed_before_us)
    fresh, news = None, NO_ROWS
    if delta is not None and delta.num_rows:
        fresh, news = _folded(state, delta if unique else rules.merge(delta), rules, batch)
        if fresh.min_end_us <= state.closed_before_us:
            raise InternalError(f"batch {batch} has rows of a window that takes no more: {fresh.min_end_us}")
    alive = tuple(run for run in state.runs if run.rows and (gone_us is None or run.max_end_us > gone_us))
    added, kept = _add(alive, fresh, rules.identity, gone_us, most_runs)
    runs = kept if added is None else (*kept, added)
    match rules.mode:
        case "update":
            given = [] if fresh is None else [fresh.table.filter(pa.array(news))]
        case "complete":
            given = [part.table for part in (_newest(runs, rules.identity),) if part is not None]
        case "append":
            given = _revised(state, fresh, news, rules.identity, watermark_us)
    names = {run.key for run in runs}
    return UpsertStep(
        state=replace(state, closed_before_us=closed_before_us, watermark_us=watermark_us, runs=runs),
        given=pa.concat_tables(given) if any(table.num_rows for table in given) else None,
        added=added,
        dropped=tuple(run.key for run in state.runs if run.key not in names),
    )


def current(state: UpsertState, identity: Identity, *, after_us: int = BEGINNING_US) -> pa.Table | None:
    """All rows as they are now, of windows that end after `after_us`; None where there are none."""
    newest = _newest(state.runs, identity, after_us)
    return None if newest is None else newest.table


def _folded(state: UpsertState, partials: pa.Table, rules: Rules, batch: int) -> tuple[UpsertRun, Truths]:
    """The run of a batch: rows that it touched, as they are now; and which of them are new or read otherwise."""
    run = partial(UpsertRun.of, identity=rules.identity, batch=batch, lo=state.lo, level=0)
    fresh = run(partials)
    before = _before(state.runs, fresh, rules.identity)
    news, numbers = np.ones(fresh.rows, np.bool_), np.zeros(fresh.rows, np.int64)
    if before is not None:
        old, hashes = before
        fresh = run(rules.merge(pa.concat_tables([fresh.table, old.select(fresh.table.column_names)])))
        # Merging moves rows.
        _, at = fresh.find(old, hashes, rules.identity)
        news = rules.changed(old, fresh.table, at)
        if rules.mode == "append":
            again = news[at] & (old.column(END).to_numpy() <= state.watermark_us)
            numbers[at] = old.column(REVISION).to_numpy() + again
    if rules.mode == "append":
        column = pa.field(REVISION, pa.int64(), nullable=False)
        fresh = replace(fresh, table=fresh.table.append_column(column, pa.array(numbers)))
    return fresh, news


def _revised(
    state: UpsertState, fresh: UpsertRun | None, news: Truths, identity: Identity, watermark_us: int
) -> list[pa.Table]:
    """Rows of windows that close now, and those that changed since theirs had closed."""
    closing = _newest(
        (*state.runs, *(() if fresh is None else (fresh,))), identity, state.watermark_us, until_us=watermark_us
    )
    found = [] if closing is None else [closing.table]
    if fresh is not None:
        closed = fresh.table.column(END).to_numpy() <= state.watermark_us
        found.append(fresh.table.filter(pa.array(news & closed)))
    return found


def _before(runs: Sequence[UpsertRun], wanted: UpsertRun, identity: Identity) -> Sorted | None:
    """What `runs` know of the rows of `wanted`: the newest first, and what one knows is not asked of an older one."""
    found: list[Sorted] = []
    missing = np.arange(wanted.rows)
    for run in reversed(runs):
        asked = wanted.table if len(missing) == wanted.rows else wanted.table.take(missing)
        which, where = run.find(asked, wanted.hashes[missing], identity)
        if len(which):
            found.append((run.table.take(where), run.hashes[where]))
            missing = np.delete(missing, which)
        if not len(missing):
            break
    return _joined(found)


def _add(
    runs: tuple[UpsertRun, ...], fresh: UpsertRun | None, identity: Identity, gone_us: int | None, most_runs: int
) -> tuple[UpsertRun | None, tuple[UpsertRun, ...]]:
    """The run that the batch adds (None where it leaves none), and the older ones that stay beside it.

    Of each key the runs are in order of levels, so those that are swallowed are the newest that know it.
    """
    if fresh is None or (gone_us is not None and fresh.max_end_us <= gone_us):
        return None, runs
    swallowed, level = _due(runs, fresh, most_runs)
    after_us = BEGINNING_US if gone_us is None else gone_us
    if not swallowed and fresh.min_end_us > after_us:
        return replace(fresh, level=level), runs
    joined = _newest([*(runs[at] for at in swallowed), fresh], identity, after_us)
    kept = tuple(run for at, run in enumerate(runs) if at not in swallowed)
    return (None if joined is None else replace(joined, batch=fresh.batch, lo=fresh.lo, level=level)), kept


def _due(runs: tuple[UpsertRun, ...], fresh: UpsertRun, most_runs: int) -> tuple[tuple[int, ...], int]:
    """As `tier`; but all, where most of the rows held must have been replaced."""
    levels = [run.level for run in runs]
    sizes = [run.rows for run in (*runs, fresh)]
    if sum(sizes) > CROWDED * max(sizes):
        return tuple(range(len(runs))), max(levels)
    return tier(levels, most_runs - 1)


def _newest(
    runs: Sequence[UpsertRun], identity: Identity, after_us: int = BEGINNING_US, *, until_us: int = END_US
) -> UpsertRun | None:
    """One run of the newest row of each identity, of windows that end after `after_us` and at or before `until_us`."""
    # Newest first: of equal identities the first one stays, also after a stable sort.
    joined = _joined([part for run in reversed(runs) if (part := run.between(after_us, until_us)) is not None])
    if joined is None:
        return None
    table, hashes = joined
    counts = _firsts(table, hashes, identity)
    if not counts.all():
        table, hashes = table.filter(pa.array(counts)), hashes[counts]
    return UpsertRun.of(table, identity, batch=runs[-1].batch, lo=runs[-1].lo, level=0, hashes=hashes)


def _joined(parts: Sequence[Sorted]) -> Sorted | None:
    """The rows of all, by ascending hash; those of one hash in order of `parts`."""
    if not parts:
        return None
    hashes = np.concatenate([hashes for _, hashes in parts])
    order = np.argsort(hashes, kind="stable")
    return pa.concat_tables([table for table, _ in parts]).take(order), hashes[order]


def _firsts(table: pa.Table, hashes: Hashes, identity: Identity) -> Truths:
    """Which rows, whose hashes ascend, are the first of their identity."""
    counts = np.ones(len(hashes), np.bool_)
    at = np.flatnonzero(hashes[1:] == hashes[:-1])
    if not len(at):
        return counts
    same = identity.same(table, at, table, at + 1)
    counts[at[same] + 1] = False
    if not same.all():
        # Different identities of one hash may alternate.
        rows = np.flatnonzero(np.isin(hashes, hashes[at[~same]]))
        names = list(identity.names)
        mixed = table.select(names).take(rows).append_column("\0row", pa.array(rows))
        first = mixed.group_by(names, use_threads=False).aggregate([("\0row", "min")]).column("\0row_min").to_numpy()
        counts[rows] = False
        counts[first] = True
    return counts
