"""Options that several commands have."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from microstream.errors import PlanError

__all__ = ["JsonOutput", "StorageOptions", "Url", "parsed_options"]

Url = Annotated[str, typer.Argument(metavar="URL", help="Checkpoint: a folder, s3://bucket/prefix, gs:// or abfs://.")]
JsonOutput = Annotated[bool, typer.Option("--json", help="JSON for programs instead of text for people.")]
StorageOptions = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Of fsspec, for the object store; the value may be JSON. Repeatable."),
]


def parsed_options(pairs: list[str] | None) -> dict[str, Any] | None:
    """What `--storage-option key=value` says; None without any.

    >>> parsed_options(["anon=true", 'client_kwargs={"endpoint_url": "http://minio"}', "key=abc"])
    {'anon': True, 'client_kwargs': {'endpoint_url': 'http://minio'}, 'key': 'abc'}
    """
    options = {}
    for pair in pairs or ():
        key, separator, text = pair.partition("=")
        if not separator:
            raise PlanError(f"--storage-option {pair!r}: write key=value, as in key=abc.")
        try:
            options[key] = json.loads(text)
        except ValueError:
            options[key] = text
    return options or None
