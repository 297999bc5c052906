"""What a registry answers, or does not, is said in words that help."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pyarrow as pa
import pytest

import microstream as ms
from microstream.errors import ConnectorError, PlanError, UnreachableError
from microstream.formats.registry import UnknownSchemaError, registry_of

QUIET = {"max.retries": 0, "timeout": 5}


@contextmanager
def answering(status: int, body: dict[str, Any]) -> Iterator[str]:
    """The URL of a server with one answer to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (404, UnknownSchemaError, "there is none"),
        (409, ConnectorError, "compatib"),
        (401, ConnectorError, "credentials"),
        (500, UnreachableError, "Is it up"),
    ],
)
def test_an_answer_that_is_no_schema_says_what_to_do(status: int, kind: type[Exception], words: str) -> None:
    with answering(status, {"error_code": status, "message": "no"}) as url:
        registry = registry_of("test", "avro", {"url": url, **QUIET})
        with pytest.raises(kind, match=words) as caught:
            registry.register("t-value", '"long"', "AVRO")

    assert url in str(caught.value)


def test_a_registry_that_is_away_is_an_error_that_may_be_retried() -> None:
    registry = registry_of("test", "avro", {"url": "http://127.0.0.1:1", **QUIET})

    with pytest.raises(UnreachableError, match="http://127.0.0.1:1, schema id 7"):
        registry.schema(7)


def test_columns_of_a_topic_that_is_not_registered_cannot_be_told() -> None:
    with pytest.raises(ConnectorError, match="subject 't-value': there is none"):
        ms.read_kafka("t", bootstrap_servers="x:1", format="avro", schema_registry="mock://nothing")


def test_a_schema_that_no_record_can_fill_is_refused_by_the_record_that_shows_it() -> None:
    with pytest.raises(PlanError, match="has no 'url'"):
        registry_of("read_kafka", "avro", {"basic.auth.user.info": "a:b"})
    with pytest.raises(PlanError, match="give schema_registry="):
        ms.read_kafka("t", bootstrap_servers="x:1", format="protobuf", schema={"n": "int64"})
    with pytest.raises(PlanError, match="no Avro form"):
        ms.from_pandas(pa.table({"n": pa.array([1], pa.duration("us"))}).to_pandas()).to_kafka(
            "t", bootstrap_servers="x:1", format="avro", schema_registry="mock://x"
        )
