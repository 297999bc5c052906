from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import anything, manifest, run

from microstream.checkpoint.codec import JobFile, decode, decode_job, encode, encode_job, unpack
from microstream.checkpoint.keys import manifest_key
from microstream.checkpoint.manifest import FORMAT_VERSION, HASH_SPACE, Manifest
from microstream.checkpoint.records import dump, parse, read
from microstream.errors import CheckpointError

KEY = manifest_key(9)
ENCODED = encode(manifest())


def stored(value: dict[str, Any]) -> bytes:
    return zstandard.compress(json.dumps(value).encode())


def as_json() -> dict[str, Any]:
    value, _ = parse(unpack(ENCODED, KEY))
    assert value is not None
    return value


@given(before=anything(Manifest))
@settings(deadline=None, max_examples=50)
def test_every_manifest_comes_back_as_it_was_written(before: Manifest) -> None:
    value, _ = parse(dump(before))

    found, problems = read(Manifest, value)

    assert problems == ()
    assert found == before


def test_a_manifest_comes_back_from_its_bytes() -> None:
    assert decode(ENCODED, KEY) == manifest()


def test_a_manifest_from_before_rows_could_be_held_is_read_as_it_was_meant() -> None:
    value = as_json()
    for state in value["sinks"]:
        del state["held"], state["every_us"]

    assert decode(stored(value), KEY) == manifest()


def test_equal_manifests_give_equal_bytes() -> None:
    assert encode(manifest()) == ENCODED


def test_a_person_can_read_it() -> None:
    value = as_json()

    assert list(value) == sorted(value)
    assert value["sources"][0]["partitions"][0] == {
        "partition": "bids-0",
        "next_offset": 100,
        "max_event_time_us": 60,
        "status": "active",
    }
    assert value["operators"][0]["lane_starts"] == ["0000000000000000", "8000000000000000"]
    assert value["operators"][0]["runs"][2]["hi"] == "10000000000000000"


@given(at=st.integers(0, len(ENCODED) * 8 - 1))
@settings(deadline=None, max_examples=300)
def test_a_flipped_bit_is_never_read_as_another_manifest(at: int) -> None:
    damaged = bytearray(ENCODED)
    damaged[at // 8] ^= 1 << at % 8

    with suppress(CheckpointError):
        # A bit of the header that says nothing about the content may be read over.
        assert decode(bytes(damaged), KEY) == manifest()


@given(size=st.integers(0, len(ENCODED) - 1))
@settings(deadline=None)
def test_a_truncated_manifest_is_refused(size: int) -> None:
    with pytest.raises(CheckpointError, match="zstd"):
        decode(ENCODED[:size], KEY)


def test_a_manifest_with_something_behind_it_is_refused() -> None:
    with pytest.raises(CheckpointError, match="zstd"):
        decode(ENCODED + b"x", KEY)


def test_a_newer_format_asks_for_an_upgrade_and_names_nothing_else() -> None:
    newer = stored({"format": FORMAT_VERSION + 1, "something": "new"})

    with pytest.raises(CheckpointError, match="upgrade microstream") as raised:
        decode(newer, KEY)

    assert len(raised.value.problems) == 1


def test_all_problems_are_reported_at_once() -> None:
    value = as_json()
    del value["job"]
    value["surprise"] = 1
    value["seq"] = "nine"
    value["kind"] = "party"
    value["finished"] = 0
    value["batch"] = 2**70
    value["schemas"] = [["s1"]]
    value["sources"][0]["partitions"][1]["next_offset"] = 1.5
    value["operators"][0]["lane_starts"][1] = "8"
    value["operators"][0]["runs"][2]["segment"] = None

    with pytest.raises(CheckpointError) as raised:
        decode(stored(value), KEY)

    assert set(raised.value.problems) == {
        "job is missing",
        "surprise is unknown",
        "seq is 'nine', not a whole number of 64 bits",
        "kind is 'party', not one of start, batch, fence, confirm, compact, gc, restore, stop",
        "finished is 0, not true or false",
        f"batch is {float(2**70)!r}, not a whole number of 64 bits",
        "schemas[0] is a list of 1, not a list of 2",
        "sources[0].partitions[1].next_offset is 1.5, not a whole number of 64 bits",
        "operators[0].lane_starts[1] is '8', not a hash of 16 hexadecimal digits",
        "operators[0].runs[2].segment is null, not an object",
    }


@given(junk=st.one_of(st.binary(max_size=50), st.sampled_from([b"[]", b"null", b"3", b"{}", b'{"format": "x"}'])))
@settings(deadline=None)
def test_whatever_is_stored_gives_a_checkpoint_error(junk: bytes) -> None:
    for data in (junk, zstandard.compress(junk)):
        with pytest.raises(CheckpointError):
            decode(data, KEY)


def test_a_manifest_that_breaks_an_invariant_is_refused() -> None:
    overlapping = (run(4, 0, 10), run(4, 5, HASH_SPACE))
    value = as_json()
    value["operators"][0]["runs"] = json.loads(dump(overlapping))

    with pytest.raises(CheckpointError, match="two runs of batch 4 hold hash 0000000000000005"):
        decode(stored(value), KEY)


def test_a_manifest_under_another_name_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"s3://b/p/manifest/0+8\.json\.zst: it says that it is manifest 9"):
        decode(ENCODED, manifest_key(8), url="s3://b/p")


def test_job_json_comes_back() -> None:
    job = JobFile(job="abc", created_us=5)

    assert decode_job(encode_job(job)) == job


@pytest.mark.parametrize("data", [b"", b"{", b'{"job": 3}', b'{"job": "a", "created_us": 5, "format": 9}'])
def test_a_damaged_job_json_is_refused(data: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"job\.json"):
        decode_job(data)
