"""What must hold of every manifest, and between one and the next: named predicates, run before each write.

A predicate gives one sentence per violation. `structure` looks at one manifest, `transition` at two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from operator import lt
from typing import TypeAlias, TypeVar

from microstream.checkpoint.manifest import (
    HASH_SPACE,
    Kind,
    Manifest,
    OutboxBatch,
    OutboxLane,
    Run,
    Segment,
    SinkState,
    SourceState,
)

__all__ = ["MAX_RUNS", "invariants", "structure"]

MAX_RUNS = 5_000
"""Runs that one manifest names at most: compaction must keep below it."""

REWINDS = (Kind.RESTORE,)
"""Kinds that may go back in the input and in state."""

REPLANS = (Kind.START, Kind.RESTORE)
"""Kinds that may drop or reset operators and sinks (`on_change`), because a new plan begins with them."""

Violations: TypeAlias = Iterator[str]
T = TypeVar("T")


def invariants(previous: Manifest | None, following: Manifest) -> tuple[str, ...]:
    """All that forbids `following` as the manifest after `previous` (None: as the first); empty if allowed."""
    broken = list(structure(following))
    if previous is None:
        broken += _first(following)
    else:
        for predicate in TRANSITION:
            broken += predicate(previous, following)
    return tuple(broken)


def structure(manifest: Manifest) -> tuple[str, ...]:
    """All that is wrong with `manifest` by itself."""
    return tuple(said for predicate in STRUCTURE for said in predicate(manifest))


# One manifest.


def numbers_make_sense(m: Manifest) -> Violations:
    """Counters start where they start."""
    for name, value, least in (
        ("seq", m.seq, 0),
        ("epoch", m.epoch, 0),
        ("batch", m.batch, -1),
        ("lanes", m.lanes, 1),
        ("floor", m.floor, 0),
    ):
        if value < least:
            yield f"{name} is {value}, below {least}"
    if not m.commit_id:
        yield "commit_id is empty"
    if not m.job:
        yield "job is empty"


def floor_is_not_ahead(m: Manifest) -> Violations:
    """GC never removes the manifest that moves the floor."""
    if m.floor > m.seq:
        yield f"floor {m.floor} is above seq {m.seq}"


def kept_are_below_the_floor(m: Manifest) -> Violations:
    """Kept manifests are sorted, and only those that GC would remove."""
    seqs = [kept.seq for kept in m.kept]
    if not _ascending(seqs):
        yield f"kept is not sorted by seq: {seqs}"
    if seqs and max(seqs) >= m.floor:
        yield f"kept names seq {max(seqs)}, which floor {m.floor} retains anyway"


def names_are_distinct(m: Manifest) -> Violations:
    """Everything is found by name."""
    for what, names in (
        ("source", [s.name for s in m.sources]),
        ("operator", [o.id for o in m.operators]),
        ("sink", [s.name for s in m.sinks]),
        ("schema", [schema_id for schema_id, _ in m.schemas]),
        *((f"partition of source {s.name}", [p.partition for p in s.partitions]) for s in m.sources),
    ):
        if len(set(names)) < len(names):
            twice = sorted(name for name, times in Counter(names).items() if times > 1)
            yield f"two have the same name: {what} {', '.join(twice)}"


def offsets_are_not_negative(m: Manifest) -> Violations:
    """Offsets count from zero."""
    for source in m.sources:
        for line in source.partitions:
            if line.next_offset < 0:
                yield f"source {source.name}: {line.partition} is at offset {line.next_offset}"


def runs_are_few(m: Manifest) -> Violations:
    """A manifest stays small."""
    runs = sum(len(o.runs) for o in m.operators)
    if runs > MAX_RUNS:
        yield f"it names {runs} runs, more than {MAX_RUNS}"


def lanes_cover_the_hash_space(m: Manifest) -> Violations:
    """Lane i owns [lane_starts[i], lane_starts[i + 1]), the first from 0, the last up to HASH_SPACE."""
    for operator in m.operators:
        starts = operator.lane_starts
        if not starts or starts[0] != 0 or not _ascending(starts) or starts[-1] >= HASH_SPACE:
            yield f"operator {operator.id}: lane starts {starts} do not divide the hash space from 0"


def runs_are_sound(m: Manifest) -> Violations:
    """Each run has a range of hashes, a place, and a batch that has been."""
    for operator in m.operators:
        for run in operator.runs:
            said = _run_problem(run, m.batch)
            if said:
                yield f"operator {operator.id}: run of batch {run.batch} from {run.lo:016x} {said}"


def runs_of_a_batch_are_disjoint(m: Manifest) -> Violations:
    """A row counts once: in one batch, no two runs of an operator hold the same hashes."""
    for operator in m.operators:
        for first, second in pairwise(sorted(operator.runs, key=_batch_and_start)):
            if first.batch == second.batch and second.lo < first.hi:
                yield f"operator {operator.id}: two runs of batch {first.batch} hold hash {second.lo:016x}"


def schemas_are_there(m: Manifest) -> Violations:
    """State can be read by itself."""
    known = {schema_id for schema_id, _ in m.schemas}
    for operator in m.operators:
        if operator.schema_id not in known:
            yield f"operator {operator.id}: its schema {operator.schema_id!r} is not among the schemas"


def outboxes_are_in_order(m: Manifest) -> Violations:
    """Batches of a sink are pending or held in order, after all that is published, up to the batch committed."""
    for sink in m.sinks:
        waiting = (*sink.pending, *sink.held)
        batches = [sink.published_through, *(pending.batch for pending in waiting)]
        if not _ascending(batches):
            yield f"sink {sink.name}: published through {batches[0]}, pending {batches[1:]} is not in order"
        if max(batches) > m.batch:
            yield f"sink {sink.name}: batch {max(batches)} is not committed (the newest is {m.batch})"
        for pending in waiting:
            yield from _outbox_problems(sink, pending)


STRUCTURE: tuple[Callable[[Manifest], Violations], ...] = (
    numbers_make_sense,
    floor_is_not_ahead,
    kept_are_below_the_floor,
    names_are_distinct,
    offsets_are_not_negative,
    runs_are_few,
    lanes_cover_the_hash_space,
    runs_are_sound,
    runs_of_a_batch_are_disjoint,
    schemas_are_there,
    outboxes_are_in_order,
)


# One manifest after another.


def seq_is_contiguous(before: Manifest, after: Manifest) -> Violations:
    """No manifest is skipped, and each names the one it follows."""
    if after.seq != before.seq + 1:
        yield f"seq {after.seq} does not follow seq {before.seq}"
    if after.parent != before.commit_id:
        yield f"parent {after.parent!r} is not commit {before.commit_id!r}"
    if after.commit_id == before.commit_id:
        yield f"commit_id {after.commit_id!r} is that of its parent"


def job_stays(before: Manifest, after: Manifest) -> Violations:
    """A checkpoint is of one job, for ever."""
    if after.job != before.job:
        yield f"job {after.job!r} follows job {before.job!r}"


def epoch_never_falls(before: Manifest, after: Manifest) -> Violations:
    """An older driver does not write after a newer one; a new driver writes a fence before anything else."""
    if after.epoch < before.epoch:
        yield f"epoch {after.epoch} follows epoch {before.epoch}"
    if after.epoch == before.epoch and after.owner != before.owner:
        yield f"owner {after.owner!r} has the epoch of {before.owner!r}"
    if after.epoch > before.epoch and after.kind not in (Kind.START, Kind.FENCE, Kind.RESTORE):
        yield f"epoch {after.epoch} begins with a manifest of kind {after.kind}"


def batches_are_contiguous(before: Manifest, after: Manifest) -> Violations:
    """A batch follows the one before it, later in time; other kinds of manifest stay at their batch."""
    expected = before.batch + (after.kind is Kind.BATCH)
    if after.batch != expected:
        yield f"batch {after.batch} of a {after.kind} manifest follows batch {before.batch}"
    if after.batch_time_us < before.batch_time_us + (after.kind is Kind.BATCH and before.batch >= 0):
        yield f"batch time {after.batch_time_us} follows {before.batch_time_us}"


def finished_stays(before: Manifest, after: Manifest) -> Violations:
    """What ended does not go on, unless it is rewound."""
    if before.finished and not after.finished and after.kind not in REWINDS:
        yield "finished became false"


def floor_never_falls(before: Manifest, after: Manifest) -> Violations:
    """What GC may have removed is never named again."""
    if after.floor < before.floor:
        yield f"floor {after.floor} follows floor {before.floor}"
    gone = sorted(k.seq for k in after.kept if k.seq < before.floor and k not in before.kept)
    if gone:
        yield f"kept names {gone}, which GC may have removed"


def sources_never_go_back(before: Manifest, after: Manifest) -> Violations:
    """Offsets, event times and watermarks only grow, and partitions do not vanish."""
    if after.kind in REWINDS:
        return
    for old, new in _matched(before.sources, after.sources, lambda s: s.name):
        if new.watermark_us < old.watermark_us:
            yield f"source {old.name}: watermark {new.watermark_us} follows {old.watermark_us}"
        yield from _partitions_that_fall(old, new)


def operators_never_go_back(before: Manifest, after: Manifest) -> Violations:
    """Watermarks of operators only grow: what they closed stays closed."""
    if after.kind in REPLANS:
        return
    for old, new in _matched(before.operators, after.operators, lambda o: o.id):
        if new.watermark_us < old.watermark_us:
            yield f"operator {old.id}: watermark {new.watermark_us} follows {old.watermark_us}"
        if new.closed_before_us < old.closed_before_us:
            yield f"operator {old.id}: closed_before {new.closed_before_us} follows {old.closed_before_us}"


def published_never_falls(before: Manifest, after: Manifest) -> Violations:
    """What a sink confirmed stays confirmed."""
    for old, new in _matched(before.sinks, after.sinks, lambda s: s.name):
        if new.published_through < old.published_through:
            numbers = f"{new.published_through} follows {old.published_through}"
            yield f"sink {old.name}: published_through {numbers}"


def nothing_pending_is_lost(before: Manifest, after: Manifest) -> Violations:
    """Rows leave the outbox only when the sink has them."""
    if after.kind in REPLANS:
        return
    now = {sink.name: sink for sink in after.sinks}
    for old in before.sinks:
        new = now.get(old.name)
        still = {p.batch for p in new.pending} if new else set()
        through = new.published_through if new else -1
        lost = [p.batch for p in old.pending if p.batch not in still and p.batch > through]
        if lost:
            yield f"sink {old.name}: pending batches {lost} are gone and were not published"


def nothing_held_is_lost(before: Manifest, after: Manifest) -> Violations:
    """Rows that are held stay held until they are pending."""
    if after.kind in REPLANS:
        return
    now = {sink.name: (*sink.pending, *sink.held) for sink in after.sinks}
    for old in before.sinks:
        there = {s for batch in now.get(old.name, ()) for lane in batch.lanes for s in lane.segments}
        lost = [h.batch for h in old.held if not {s for lane in h.lanes for s in lane.segments} <= there]
        if lost:
            yield f"sink {old.name}: held batches {lost} are gone and are not pending"


TRANSITION: tuple[Callable[[Manifest, Manifest], Violations], ...] = (
    seq_is_contiguous,
    job_stays,
    epoch_never_falls,
    batches_are_contiguous,
    finished_stays,
    floor_never_falls,
    sources_never_go_back,
    operators_never_go_back,
    published_never_falls,
    nothing_pending_is_lost,
    nothing_held_is_lost,
)


def _first(m: Manifest) -> Violations:
    if m.seq != 0 or m.parent:
        yield f"the first manifest has seq {m.seq} and parent {m.parent!r}, not 0 and none"
    if m.kind not in REPLANS:
        yield f"the first manifest is of kind {m.kind}, not {Kind.START}"


def _run_problem(run: Run, batch: int) -> str:
    if not 0 <= run.lo < run.hi <= HASH_SPACE:
        return f"has no hash below {run.hi:x}"
    if not 0 <= run.batch <= batch:
        return f"is not of a committed batch (the newest is {batch})"
    if run.min_end_us > run.max_end_us:
        return f"has window ends from {run.min_end_us} to {run.max_end_us}"
    return _segment_problem(run.segment)


def _segment_problem(segment: Segment) -> str:
    if segment.offset < 0 or segment.length <= 0 or segment.rows < 0 or not 0 <= segment.crc32 < 2**32:
        return f"lies at {segment}"
    return "" if segment.object else "names no object"


def _outbox_problems(sink: SinkState, pending: OutboxBatch) -> Violations:
    where = f"sink {sink.name}, batch {pending.batch}"
    lanes = [lane.lane for lane in pending.lanes]
    if not lanes or not _ascending(lanes) or lanes[0] < 0 or lanes[-1] >= sink.lanes:
        yield f"{where}: lanes {lanes} are not distinct lanes of {sink.lanes}"
    for lane in pending.lanes:
        said = _lane_problem(lane)
        if said:
            yield f"{where}, lane {lane.lane}: {said}"


def _lane_problem(lane: OutboxLane) -> str:
    rows = sum(segment.rows for segment in lane.segments)
    if not lane.segments and lane.chunks == (0,):
        return ""
    if not lane.chunks or not _ascending(lane.chunks) or lane.chunks[0] < 1 or lane.chunks[-1] != rows:
        return f"chunks {lane.chunks} do not cut {rows} rows"
    return next((said for segment in lane.segments if (said := _segment_problem(segment))), "")


def _partitions_that_fall(old: SourceState, new: SourceState) -> Violations:
    now = {line.partition: line for line in new.partitions}
    for line in old.partitions:
        found = now.get(line.partition)
        if found is None:
            yield f"source {old.name}: partition {line.partition} is gone"
        elif found.next_offset < line.next_offset:
            yield f"source {old.name}: {line.partition} offset {found.next_offset} follows {line.next_offset}"
        elif found.max_event_time_us < line.max_event_time_us:
            times = f"{found.max_event_time_us} follows {line.max_event_time_us}"
            yield f"source {old.name}: {line.partition} event time {times}"


def _batch_and_start(run: Run) -> tuple[int, int]:
    return run.batch, run.lo


def _ascending(values: Sequence[int]) -> bool:
    return all(map(lt, values, values[1:]))


def _matched(before: Iterable[T], after: Iterable[T], name: Callable[[T], str]) -> Iterator[tuple[T, T]]:
    now = {name(one): one for one in after}
    return ((old, now[name(old)]) for old in before if name(old) in now)
