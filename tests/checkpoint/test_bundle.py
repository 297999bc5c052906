from __future__ import annotations

import zlib
from dataclasses import replace

import pyarrow as pa
import pytest
from faulty_store import FaultyStore
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.checkpoint.bundle import Bundle, read_segments
from microstream.checkpoint.manifest import Segment
from microstream.checkpoint.memory import MemoryStore
from microstream.errors import CheckpointError

NAME = "data/00000001/0000000000000004-d-aa.arrow"
SCHEMA = pa.schema([("key", pa.large_string()), ("values", pa.list_(pa.int64())), ("on", pa.bool_())])

rows = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.none() | st.text(max_size=5),
            "values": st.none() | st.lists(st.integers(-9, 9), max_size=3),
            "on": st.none() | st.booleans(),
        }
    ),
    max_size=8,
)
cuts = st.tuples(st.integers(0, 8), st.integers(0, 8))


def table(*keys: str) -> pa.Table:
    return pa.table({"key": pa.array(keys, pa.large_string())})


def stored(*tables: pa.Table, name: str = NAME) -> tuple[MemoryStore, tuple[Segment, ...]]:
    store, bundle = MemoryStore(), Bundle()
    for one in tables:
        bundle.add(one)
    data, segments = bundle.seal(name)
    store.put(name, data)
    return store, segments


@given(parts=st.lists(st.tuples(rows, cuts), max_size=4), data=st.data())
@settings(deadline=None)
def test_tables_come_back_in_any_order(
    parts: list[tuple[list[dict[str, object]], tuple[int, int]]], data: st.DataObject
) -> None:
    tables = [pa.Table.from_pylist(some, schema=SCHEMA).slice(start, length) for some, (start, length) in parts]
    store, segments = stored(*tables)
    order = data.draw(st.permutations(range(len(tables))))

    found = read_segments(store, [segments[n] for n in order])

    assert [one.to_pylist() for one in found] == [tables[n].to_pylist() for n in order]
    assert all(one.schema.equals(SCHEMA) for one in found)
    assert [segment.rows for segment in segments] == [one.num_rows for one in tables]


def test_segments_lie_one_after_the_other_and_carry_size_and_crc() -> None:
    bundle = Bundle()
    assert [bundle.add(table("a")), bundle.add(table()), bundle.add(table("b", "c"))] == [0, 1, 2]

    data, segments = bundle.seal(NAME)

    assert len(data) == bundle.nbytes == sum(segment.length for segment in segments)
    for segment in segments:
        piece = data[segment.offset : segment.offset + segment.length]
        assert segment.crc32 == zlib.crc32(piece)
        assert segment.object == NAME


def test_an_empty_bundle_is_an_empty_object() -> None:
    assert Bundle().seal(NAME) == (b"", ())
    assert len(Bundle()) == 0


@pytest.mark.parametrize("length", [0, 1, 5])
def test_a_small_slice_of_a_big_table_is_small(length: int) -> None:
    text = pa.array([f"{n:040d}" for n in range(50_000)], pa.large_string())
    nested = pa.array([[str(n)] * 3 for n in range(50_000)])
    big = pa.table({"text": text, "nested": nested})
    piece = big.slice(20_000, length)
    bundle = Bundle()

    bundle.add(piece)
    bundle.add(pa.concat_tables([big.slice(7, 0), piece, big.slice(9, 0)]))

    assert bundle.nbytes < 6_000


def test_one_object_is_read_with_one_request() -> None:
    bundles = [stored(table("a"), table("b"), name=f"data/00000001/{n:016x}-d-aa.arrow") for n in range(2)]
    store = FaultyStore(bundles[0][0])
    store.inner.put(bundles[1][1][0].object, bundles[1][0].get(bundles[1][1][0].object))
    (one, two), (three, four) = bundles[0][1], bundles[1][1]

    found = read_segments(store, [four, one, three, two, one])

    assert [t.column("key").to_pylist() for t in found] == [["b"], ["a"], ["a"], ["b"], ["a"]]
    assert [call for call, _ in store.calls] == ["get_ranges", "get_ranges"]


@given(bit=st.integers(0, 10_000))
@settings(deadline=None)
def test_a_flipped_bit_is_found(bit: int) -> None:
    store, segments = stored(table("a", "b"), table("c"))
    data = bytearray(store.get(NAME))
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    store.put(NAME, bytes(data))

    with pytest.raises(CheckpointError, match="crc32") as raised:
        read_segments(store, segments)

    assert NAME in str(raised.value)
    assert len(raised.value.problems) == 1


@given(missing=st.integers(1, 200))
@settings(deadline=None)
def test_a_truncated_object_is_found(missing: int) -> None:
    store, segments = stored(table("a", "b"))
    store.put(NAME, store.get(NAME)[:-missing])

    with pytest.raises(CheckpointError, match=f"of {segments[0].length} bytes are there"):
        read_segments(store, segments)


def test_all_damaged_and_missing_objects_are_named_at_once() -> None:
    store, (good, bad) = stored(table("a"), table("b"))
    gone = replace(good, object="data/00000001/gone.arrow")
    wrong = replace(bad, crc32=bad.crc32 ^ 1)

    with pytest.raises(CheckpointError, match=r"gone\.arrow is not there") as raised:
        read_segments(store, [good, gone, wrong])

    assert len(raised.value.problems) == 2


def test_content_that_is_no_arrow_is_found_even_if_its_crc_is_right() -> None:
    store = MemoryStore()
    store.put(NAME, b"not arrow")
    segment = Segment(object=NAME, offset=0, length=9, crc32=zlib.crc32(b"not arrow"), rows=1)

    with pytest.raises(CheckpointError, match=NAME):
        read_segments(store, [segment])


def test_a_table_with_another_number_of_rows_is_found() -> None:
    store, (segment,) = stored(table("a", "b"))

    with pytest.raises(CheckpointError, match="holds 2 rows, not 3"):
        read_segments(store, [replace(segment, rows=3)])
