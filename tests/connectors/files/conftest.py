"""An S3 server in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import wraps
from typing import Any

import boto3
import pytest
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer


@pytest.fixture(scope="session")
def bucket_options() -> Iterator[dict[str, Any]]:
    """What fsspec needs to reach "s3://bucket". moto checks, then puts: without a lock several creators would win."""
    patch = pytest.MonkeyPatch()
    patch.setattr(S3Response, "put_object", _one_at_a_time(S3Response.put_object))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"key": "test", "secret": "test", "endpoint_url": f"http://{host}:{port}"}
    boto3.client(
        "s3",
        endpoint_url=options["endpoint_url"],
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    ).create_bucket(Bucket="bucket")
    yield options
    server.stop()
    patch.undo()


def _one_at_a_time(function: Any) -> Any:
    lock = threading.RLock()

    @wraps(function)
    def locked(*args: Any, **kwargs: Any) -> Any:
        with lock:
            return function(*args, **kwargs)

    return locked
