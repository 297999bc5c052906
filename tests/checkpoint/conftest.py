"""An S3 server in this process, and empty stores."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer

from microstream.checkpoint.local import LocalStore
from microstream.checkpoint.memory import MemoryStore
from microstream.checkpoint.objects import FsspecStore


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """URL of an S3 with the bucket "bucket". moto checks, then puts: without a lock several creators would win."""
    patch = pytest.MonkeyPatch()
    patch.setattr(S3Response, "put_object", _one_at_a_time(S3Response.put_object))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    ).create_bucket(Bucket="bucket")
    yield endpoint
    server.stop()
    patch.undo()


@pytest.fixture
def s3_options(s3_endpoint: str) -> dict[str, Any]:
    return {"key": "test", "secret": "test", "endpoint_url": s3_endpoint}


@pytest.fixture
def s3_store(s3_options: dict[str, Any]) -> FsspecStore:
    return FsspecStore(f"s3://bucket/{uuid.uuid4().hex}", s3_options)


@pytest.fixture
def local_store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "checkpoint")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def _one_at_a_time(function: Any) -> Any:
    lock = threading.RLock()

    @wraps(function)
    def locked(*args: Any, **kwargs: Any) -> Any:
        with lock:
            return function(*args, **kwargs)

    return locked
