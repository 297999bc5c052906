"""The log of a file source: what one driver wrote down, every worker and every later driver finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.checkpoint.keys import SOURCES
from microstream.checkpoint.memory import MemoryStore
from microstream.checkpoint.source_log import SourceLog
from microstream.connectors.files.journal import PARTITIONS, Journal, following
from microstream.connectors.files.listing import Found
from microstream.connectors.files.probe import FileProbe


def found(*names: str) -> list[Found]:
    return [Found(path=name, size=250, version="1", modified_s=0.0) for name in names]


class Still:
    """A clock that stands: no listing takes long."""

    def now_us(self) -> int:
        return 0


def probe(folder: Path, store: MemoryStore, paths: Sequence[str] = ()) -> FileProbe:
    log = SourceLog(store, "files")
    return FileProbe(paths or (str(folder),), {}, log, Still(), watch=True, on_data_loss="fail")


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text("{}\n")


@settings(deadline=None, max_examples=20)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=150))
def test_each_offset_leads_to_its_file_however_many_entries_there_are(sizes: list[int]) -> None:
    journal, ends, known = Journal(SourceLog(MemoryStore(), "files")), {}, []
    for number, size in enumerate(sizes):
        entry = following(number, found(*(f"{number}-{at}" for at in range(size))), known, ends)
        assert journal.add(number, entry)
        ends, known = dict(entry.ends), [*known, *entry.files]

    for file in known[:: max(1, len(known) // 20)]:
        assert journal.files(file.partition, file.first, file.end) == [file]
    for partition, end in ends.items():
        assert journal.files(partition, 0, end) == [file for file in known if file.partition == partition]
    assert len(ends) == min(PARTITIONS, max(sizes))


def test_a_new_driver_reads_from_the_last_entry_that_knows_everything(tmp_path: Path) -> None:
    store = MemoryStore()
    first = probe(tmp_path, store)
    for at in range(205):
        put(tmp_path, f"{at:03d}")
        first.bounds()
    store.delete(store.list(SOURCES)[:200])

    second = probe(tmp_path, store)

    assert second.bounds() == first.bounds()


def test_two_drivers_at_once_write_each_file_down_once(tmp_path: Path) -> None:
    store = MemoryStore()
    zombie, heir = probe(tmp_path, store), probe(tmp_path, store)
    for at in range(10):
        put(tmp_path, f"{at}")
        (heir if at % 2 else zombie).bounds()

    assert zombie.bounds() == heir.bounds()
    entries = [Journal(SourceLog(store, "files")).get(number) for number in range(10)]
    names = [Path(file.path).name for entry in entries if entry is not None for file in entry.files]
    assert sorted(names) == sorted(map(str, range(10)))


def test_files_are_dealt_out_from_the_first_partition_on_by_time_of_change_and_name(tmp_path: Path) -> None:
    store = MemoryStore()
    first = probe(tmp_path, store)
    put(tmp_path, "b")
    assert list(first.bounds()) == ["files-0"]
    put(tmp_path, "a")

    first.bounds()

    journal = Journal(SourceLog(store, "files"))
    assert [Path(file.path).name for file in journal.files("files-0", 0, 2)] == ["b", "a"]


def test_a_file_that_comes_back_is_known_if_it_is_the_same_and_new_if_it_is_another(tmp_path: Path) -> None:
    store, away = MemoryStore(), tmp_path / "_away"
    watching = probe(tmp_path, store)
    put(tmp_path, "a", "b")
    before = watching.bounds()

    (tmp_path / "a").rename(away)
    watching.bounds()
    away.rename(tmp_path / "a")
    assert watching.bounds() == probe(tmp_path, store).bounds() == before

    (tmp_path / "a").rename(away)
    watching.bounds()
    put(tmp_path, "a")
    assert watching.bounds()["files-0"].end == before["files-0"].end + 1


def test_what_was_removed_moves_the_low_end(tmp_path: Path) -> None:
    store = MemoryStore()
    watching = probe(tmp_path, store)
    for name in "abc":
        put(tmp_path, name)
        watching.bounds()

    (tmp_path / "a").unlink()

    at = watching.bounds()["files-0"]
    assert (at.low, at.end) == (1, 3)
    assert watching.start_offsets("earliest") == {"files-0": 1}
