from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.s3.exceptions import MissingKey
from moto.s3.responses import S3Response

from microstream.checkpoint import objects
from microstream.checkpoint.objects import FsspecStore
from microstream.checkpoint.store import AlreadyExistsError, NotFoundError, StoreError
from microstream.errors import CheckpointError

Answer = tuple[int, dict[str, str], bytes]


class HttpError(Exception):
    """As gcsfs (`code`) and adlfs (`status_code`, `error_code`) have them."""

    def __init__(self, **fields: Any) -> None:
        super().__init__("refused")
        self.__dict__.update(fields)


def answer(status: int, code: str) -> Answer:
    return status, {}, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message></Error>".encode()


def translated(problem: BaseException) -> StoreError:
    store = FsspecStore("s3://bucket/prefix", {"anon": True})
    with pytest.raises(StoreError) as raised, store._failing("key"):
        raise problem
    return raised.value


def boto(status: int, code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")  # type: ignore[typeddict-item]


def caused(problem: OSError, cause: BaseException) -> OSError:
    problem.__cause__ = cause
    return problem


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (FileExistsError("there"), AlreadyExistsError),
        (caused(OSError(5, "conflict"), boto(409, "ConditionalRequestConflict")), AlreadyExistsError),
        (caused(OSError(22, "precondition"), boto(412, "PreconditionFailed")), AlreadyExistsError),
        (HttpError(code=412), AlreadyExistsError),
        (HttpError(status_code=409), AlreadyExistsError),
        (FileNotFoundError("absent"), NotFoundError),
        (HttpError(code=404), NotFoundError),
        (caused(FileNotFoundError("absent"), boto(404, "NoSuchKey")), NotFoundError),
        (caused(FileNotFoundError("absent"), boto(404, "NoSuchBucket")), StoreError),
        (HttpError(status_code=404, error_code="ContainerNotFound"), StoreError),
        (PermissionError("403"), StoreError),
        (TimeoutError("slow"), StoreError),
        (HttpError(code=503), StoreError),
        (RuntimeError("loop is closed"), StoreError),
    ],
    ids=repr,
)
def test_every_error_of_a_client_becomes_one_of_three(problem: BaseException, kind: type[StoreError]) -> None:
    assert type(translated(problem)) is kind


def test_a_lost_reply_shows_as_already_there(s3_store: FsspecStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put = S3Response.put_object
    replies: list[Answer] = [answer(500, "InternalError")]

    def lose_one(self: Any, *args: Any) -> Any:
        done = put(self, *args)
        return replies.pop() if replies else done

    monkeypatch.setattr(S3Response, "put_object", lose_one)

    with pytest.raises(AlreadyExistsError):
        s3_store.create("manifest/1", b"mine")
    assert s3_store.get("manifest/1") == b"mine"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (answer(409, "ConditionalRequestConflict"), AlreadyExistsError),
        (answer(403, "AccessDenied"), StoreError),
        (answer(400, "InvalidRequest"), StoreError),
    ],
    ids=["409", "403", "400"],
)
def test_answers_of_the_server_are_told_apart(
    s3_store: FsspecStore, monkeypatch: pytest.MonkeyPatch, reply: Answer, kind: type[StoreError]
) -> None:
    monkeypatch.setattr(S3Response, "put_object", lambda self, *args: reply)

    with pytest.raises(StoreError) as raised:
        s3_store.create("manifest/1", b"mine")

    assert type(raised.value) is kind


def test_a_forbidden_get_is_not_an_absent_object(s3_store: FsspecStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(S3Response, "get_object", lambda self, *args: answer(403, "AccessDenied"))

    with pytest.raises(StoreError) as raised:
        s3_store.get("epoch/00000002")

    assert not isinstance(raised.value, NotFoundError)


def test_a_bucket_without_list_permission_fails_the_probe(
    s3_store: FsspecStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    get: Callable[..., Any] = S3Response.get_object

    def forbid_absent(self: Any, *args: Any) -> Any:
        try:
            return get(self, *args)
        except MissingKey:
            return answer(403, "AccessDenied")

    monkeypatch.setattr(S3Response, "get_object", forbid_absent)

    with pytest.raises(CheckpointError, match="an absent object is not reported as absent") as raised:
        s3_store.probe()

    assert "s3:ListBucket" in str(raised.value)


def test_a_store_that_ignores_the_condition_fails_the_probe(
    s3_store: FsspecStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_store._files, "pipe_file", _without_condition(s3_store._files.pipe_file))

    with pytest.raises(CheckpointError, match="ignores If-None-Match"):
        s3_store.probe()


def test_a_bucket_that_is_not_there_fails_the_probe(s3_options: dict[str, Any]) -> None:
    store = FsspecStore("s3://no-such-bucket/prefix", s3_options)

    with pytest.raises(CheckpointError, match="bucket is not there"):
        store.probe()
    with pytest.raises(StoreError) as raised:
        store.get("job.json")
    assert not isinstance(raised.value, NotFoundError)


def test_two_prefixes_of_a_bucket_do_not_see_each_other(s3_options: dict[str, Any]) -> None:
    one, two = (FsspecStore(f"s3://bucket/twins/{name}", s3_options) for name in ("a", "a1"))
    one.create("job.json", b"1")
    two.create("job.json", b"2")

    assert one.list("") == ["job.json"]
    assert two.get("job.json") == b"2"
    one.delete(["job.json"])
    assert two.list("") == ["job.json"]


def test_another_client_sees_every_write_at_once(s3_store: FsspecStore, s3_options: dict[str, Any]) -> None:
    other = FsspecStore(s3_store.url, s3_options)
    assert other.list("manifest/") == []

    s3_store.create("manifest/1", b"1")

    assert other.list("manifest/") == ["manifest/1"]
    assert other.get("manifest/1") == b"1"


def test_more_keys_than_one_page_are_listed_and_deleted(s3_store: FsspecStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "5")
    keys = [f"data/00000001/{n:04d}" for n in range(12)]
    for key in keys:
        s3_store.put(key, b".")

    assert s3_store.list("data/") == keys
    s3_store.delete(keys)
    assert s3_store.list("data/") == []


def test_an_object_is_read_with_one_request(s3_store: FsspecStore, monkeypatch: pytest.MonkeyPatch) -> None:
    s3_store.create("manifest/1", b"x" * 1_000)
    requests: list[str] = []
    call = s3_store._files._call_s3

    async def counted(method: str, *args: Any, **kwargs: Any) -> Any:
        requests.append(method)
        return await call(method, *args, **kwargs)

    monkeypatch.setattr(s3_store._files, "_call_s3", counted)
    s3_store.get("manifest/1")
    s3_store.get_ranges("manifest/1", [(0, 10), (900, 10), (500, 3)])

    assert requests == ["get_object", "get_object"]


def test_secrets_are_not_shown(s3_store: FsspecStore) -> None:
    store = FsspecStore("s3://bucket/x", {"key": "AKIA", "secret": "hush"})

    assert "hush" not in repr(store)
    assert repr(store) == "FsspecStore('s3://bucket/x')"


def test_a_get_range_far_apart_is_read_in_pieces(s3_store: FsspecStore) -> None:
    data = bytes(n % 256 for n in range(3 * objects.MAX_GAP_BYTES))
    s3_store.put("data/a", data)
    last = len(data) - 4

    assert s3_store.get_ranges("data/a", [(last, 4), (0, 4)]) == [data[last:], data[:4]]


def _without_condition(pipe_file: Callable[..., Any]) -> Callable[..., Any]:
    return lambda path, data, mode="overwrite": pipe_file(path, data)
