"""`status`, `checkpoints` and `state`: what a checkpoint says, read without a cluster, also while its query runs."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microstream.cli.options import JsonOutput, StorageOptions, Url, parsed_options

if TYPE_CHECKING:
    import pandas as pd

    from microstream.checkpoint.manifest import Manifest

__all__ = ["Format", "checkpoints", "state", "status"]

ROWS_SHOWN = 50


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def status(url: Url, storage_option: StorageOptions = None, as_json: JsonOutput = False) -> None:
    """How the query of a checkpoint stands.

    Last batch, owner, offsets, state, and what its sinks have not confirmed.
    """
    from microstream.runtime.opened import open_checkpoint

    told = _status(open_checkpoint(url, parsed_options(storage_option)).newest())
    if as_json:
        typer.echo(json.dumps(told))
        return
    width = max(len(name) for name in told)
    for name, value in told.items():
        for line in value if isinstance(value, list) else [value]:
            said = ", ".join(f"{k} {v}" for k, v in line.items()) if isinstance(line, dict) else line
            typer.echo(f"{name:<{width}}  {said}")


def _status(manifest: Manifest) -> dict[str, Any]:
    from microstream.clock import iso

    ended = "finished" if manifest.finished else "stopped"
    return {
        "checkpoint": manifest.url,
        "job": manifest.job,
        "status": ended if manifest.kind == "stop" or manifest.finished else "running, or killed",
        "written": iso(manifest.written_us),
        "batch": manifest.batch,
        "epoch": manifest.epoch,
        "owner": manifest.owner,
        "lanes": manifest.lanes,
        "sources": [
            {
                "name": source.name,
                "reads": f"{source.kind} {source.target}".strip(),
                "partition": line.partition,
                "next_offset": line.next_offset,
                "status": str(line.status),
                "watermark": iso(source.watermark_us),
            }
            for source in manifest.sources
            for line in source.partitions
        ],
        "operators": [
            {
                "name": state.id,
                "kind": state.kind,
                "watermark": iso(state.watermark_us),
                "runs": len(state.runs),
                "rows": sum(segment.rows for segment in {run.segment for run in state.runs}),
            }
            for state in manifest.operators
        ],
        "sinks": [
            {
                "name": sink.name,
                "writes": f"{sink.kind} {sink.target}".strip(),
                "published_through": sink.published_through,
                "pending_batches": len(sink.pending),
                "held_batches": len(sink.held),
            }
            for sink in manifest.sinks
        ],
    }


def checkpoints(url: Url, storage_option: StorageOptions = None, as_json: JsonOutput = False) -> None:
    """The batches that can be looked at.

    One row per retained manifest.
    """
    from microstream.runtime.opened import open_checkpoint

    found = open_checkpoint(url, parsed_options(storage_option)).batches()
    _write(found, Format.JSON if as_json else Format.TABLE, newest=True)


def state(
    url: Url,
    operator: Annotated[str, typer.Argument(help="Its id, as `microstream status` names it.")],
    batch: Annotated[int | None, typer.Option(help="As of after this batch. [default: the newest]")] = None,
    format: Annotated[Format, typer.Option(help="All rows as csv or json lines, or the first 50 as a table.")] = (
        Format.TABLE
    ),
    storage_option: StorageOptions = None,
    as_json: JsonOutput = False,
) -> None:
    """What an operator remembers.

    Keys, windows and aggregates as they stand.
    """
    from microstream.runtime.opened import open_checkpoint

    found = open_checkpoint(url, parsed_options(storage_option)).state(operator, batch)
    _write(found, Format.JSON if as_json else format)


def _write(frame: pd.DataFrame, format: Format, *, newest: bool = False) -> None:
    match format:
        case Format.JSON:
            text = frame.to_json(orient="records", lines=True, date_format="iso", date_unit="us")
            typer.echo(text, nl=False)
        case Format.CSV:
            typer.echo(frame.to_csv(index=False, date_format="%Y-%m-%dT%H:%M:%S.%f"), nl=False)
        case Format.TABLE:
            shown = frame.tail(ROWS_SHOWN) if newest else frame.head(ROWS_SHOWN)
            typer.echo(shown.to_string(index=False))
            if len(shown) < len(frame):
                typer.echo(f"{len(shown)} of {len(frame)} rows; csv and json have all.", err=True)
