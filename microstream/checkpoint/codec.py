"""Manifests and job.json as bytes. A manifest is JSON under zstd: `zstd -dc FILE | jq` shows all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import zstandard

from microstream.checkpoint.invariants import structure
from microstream.checkpoint.keys import JOB, seq_of
from microstream.checkpoint.manifest import FORMAT_VERSION, Manifest
from microstream.checkpoint.records import dump, parse, read
from microstream.errors import CheckpointError

__all__ = ["JobFile", "decode", "decode_job", "decode_record", "encode", "encode_job", "unpack"]

R = TypeVar("R")
LEVEL = 3
MAX_BYTES = 256_000_000
"""Of a manifest as JSON: 5,000 runs are 2 MB. A damaged header must not make a reader ask for all memory."""

DAMAGED = "The file is damaged: restore it from a backup, or fork the checkpoint at an older batch."
UPGRADE = "It was written by a newer version: upgrade microstream."


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFile:
    """What a checkpoint is called for ever: the uuid that names its transactions in every sink."""

    job: str
    created_us: int
    format: int = FORMAT_VERSION


def encode(manifest: Manifest) -> bytes:
    """`manifest` as it is stored; equal manifests give equal bytes."""
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(dump(manifest))


def decode(data: bytes, key: str, *, url: str = "") -> Manifest:
    """The manifest stored at `key` (of the store at `url`, for the message).

    Raises
    ------
    CheckpointError
        With all problems: not zstd, not JSON, missing or wrong fields, a newer format, another seq than its
        name.
    """
    where = f"{url}/{key}" if url else key
    manifest = decode_record(Manifest, unpack(data, where), where)
    problems = [*structure(manifest)]
    if manifest.seq != seq_of(key):
        problems.append(f"it says that it is manifest {manifest.seq}")
    if problems:
        raise CheckpointError.of(where, problems, DAMAGED)
    return manifest


def unpack(data: bytes, key: str) -> bytes:
    """The JSON text of the manifest stored at `key`. Raises CheckpointError."""
    try:
        if zstandard.frame_content_size(data) > MAX_BYTES:
            raise zstandard.ZstdError(f"it claims to hold more than {MAX_BYTES} bytes")
        return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as problem:
        raise CheckpointError.of(
            key, [f"its {len(data)} bytes are no whole zstd frame ({problem})"], DAMAGED
        ) from problem


def encode_job(job: JobFile) -> bytes:
    """`job` as job.json."""
    return dump(job)


def decode_job(data: bytes) -> JobFile:
    """What job.json says. Raises CheckpointError with all problems."""
    return decode_record(JobFile, data, JOB)


def decode_record(kind: type[R], text: bytes, key: str) -> R:
    """A record with a `format`, from the JSON `text` at `key`. Raises CheckpointError with all problems."""
    value, problem = parse(text)
    if value is None:
        raise CheckpointError.of(key, [problem], DAMAGED)
    version: Any = value.get("format", FORMAT_VERSION)
    if type(version) is int and version > FORMAT_VERSION:
        raise CheckpointError.of(key, [f"it has format {version}, this version reads up to {FORMAT_VERSION}"], UPGRADE)
    record, problems = read(kind, value)
    if record is None:
        raise CheckpointError.of(key, problems, DAMAGED)
    return record
