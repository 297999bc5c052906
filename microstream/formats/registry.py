"""A schema registry (Confluent's, or one that speaks its protocol), and the wire format that names schemas in records.

A record begins with a zero byte and the schema's id in four bytes, big-endian.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn, TypeAlias

from microstream.errors import ConnectorError, PlanError, UnreachableError

__all__ = [
    "HEADER_BYTES",
    "Registry",
    "UnknownSchemaError",
    "WrittenSchema",
    "header_of",
    "registry_of",
    "schema_id_of",
]

RegistryConfig: TypeAlias = "str | Mapping[str, str | int | float | bool]"

HEADER_BYTES = 5
NOT_FOUND, CONFLICT, UNPROCESSABLE, REFUSED = 404, 409, 422, (401, 403)


class UnknownSchemaError(ConnectorError):
    """The registry has no schema of that id or subject."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenSchema:
    """A schema as it is registered; `kind` is "AVRO", "PROTOBUF" or "JSON"; `references` are names and schemas."""

    id: int
    kind: str
    text: str
    references: tuple[tuple[str, WrittenSchema], ...] = ()


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry as plans name it; processes keep one client for each.

    Parameters
    ----------
    config
        Settings of confluent-kafka's `SchemaRegistryClient` as (name, value), "url" among them.
    """

    config: tuple[tuple[str, Any], ...]

    @property
    def url(self) -> str:
        """Where it is."""
        return str(dict(self.config)["url"])

    def schema(self, schema_id: int, form: str | None = None) -> WrittenSchema:
        """The schema of that id, in the `form` that the registry is to give it ("serialized": Protobuf as base64).

        Raises UnknownSchemaError, ConnectorError, UnreachableError.
        """
        try:
            found = _client(self).get_schema(schema_id, fmt=form)
        except Exception as problem:  # noqa: BLE001 - errors of the HTTP library have no common ancestor
            self._fail(problem, f"schema id {schema_id}")
        return self._written(schema_id, found, form)

    def latest(self, subject: str, form: str | None = None) -> WrittenSchema:
        """The newest schema of a subject. Raises as `schema`."""
        try:
            found = _client(self).get_latest_version(subject, fmt=form)
        except Exception as problem:  # noqa: BLE001
            self._fail(problem, f"subject {subject!r}")
        return self._written(found.schema_id, found.schema, form)

    def register(self, subject: str, text: str, kind: str) -> int:
        """The id of a schema under `subject`, where it is registered if it is new. Raises as `schema`."""
        from confluent_kafka.schema_registry import Schema

        try:
            found: int = _client(self).register_schema(subject, Schema(text, kind))
        except Exception as problem:  # noqa: BLE001
            self._fail(problem, f"subject {subject!r}")
        return found

    def _written(self, schema_id: int, found: Any, form: str | None) -> WrittenSchema:
        references = []
        for reference in found.references or ():
            try:
                version = _client(self).get_version(reference.subject, reference.version, fmt=form)
            except Exception as problem:  # noqa: BLE001
                self._fail(problem, f"subject {reference.subject!r}, version {reference.version}")
            references.append((reference.name, self._written(version.schema_id, version.schema, form)))
        return WrittenSchema(
            id=schema_id, kind=found.schema_type or "AVRO", text=found.schema_str, references=tuple(references)
        )

    def _fail(self, problem: Exception, what: str) -> NoReturn:
        status = getattr(problem, "http_status_code", None)
        where = f"schema registry {self.url}, {what}"
        if status == NOT_FOUND:
            raise UnknownSchemaError(
                f"{where}: there is none. Name the registry that those who write use."
            ) from problem
        if status in (CONFLICT, UNPROCESSABLE):
            raise ConnectorError(
                f"{where}: the columns do not go with the schemas that are there: {problem}. Keep the columns "
                "compatible, write to another topic, or lower the compatibility level of the subject."
            ) from problem
        if status in REFUSED:
            raise ConnectorError(
                f"{where}: refused ({problem}). Check the credentials in schema_registry=."
            ) from problem
        raise UnreachableError(f"{where}: {type(problem).__name__}: {problem}. Is it up and reachable?") from problem


def registry_of(where: str, format: str, config: RegistryConfig | None) -> Registry:
    """The registry that a user names by its URL, or by settings of `SchemaRegistryClient`.

    Raises
    ------
    PlanError
        It is missing, or its settings have no "url".

    >>> registry_of("read_kafka", "avro", "http://localhost:8081").url
    'http://localhost:8081'
    """
    if config is None:
        raise PlanError(
            f"{where}(format={format!r}): give schema_registry=, the URL of the registry that knows the schemas, as in "
            "schema_registry='http://localhost:8081', or a mapping of settings with 'url'."
        )
    settings = {"url": config} if isinstance(config, str) else dict(config)
    if not settings.get("url"):
        raise PlanError(f"{where}: schema_registry={{...}} has no 'url'. Settings: {', '.join(settings) or 'none'}.")
    return Registry(tuple(sorted(settings.items())))


def schema_id_of(message: bytes) -> int | None:
    """The schema id that a record names; None if it does not begin as the wire format does.

    >>> schema_id_of(b"\\x00\\x00\\x00\\x00\\x07payload"), schema_id_of(b"{}")
    (7, None)
    """
    if len(message) < HEADER_BYTES or message[0]:
        return None
    return int.from_bytes(message[1:HEADER_BYTES])


def header_of(schema_id: int) -> bytes:
    """How a record of that schema begins."""
    return b"\0" + schema_id.to_bytes(HEADER_BYTES - 1)


@lru_cache(maxsize=64)
def _client(registry: Registry) -> Any:
    try:
        from confluent_kafka.schema_registry import SchemaRegistryClient
    except ImportError as missing:
        raise PlanError(
            f"schema_registry= needs packages that are not installed ({missing}): pip install 'microstream[avro]' or "
            "'microstream[protobuf]', or in a clone '.[avro,protobuf]'."
        ) from missing
    return SchemaRegistryClient.new_client(dict(registry.config))
