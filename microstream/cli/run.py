"""`run` and `explain`: what a program describes, started or printed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from microstream.cli.options import JsonOutput, StorageOptions, parsed_options
from microstream.cli.target import Made, made_by
from microstream.errors import PlanError

if TYPE_CHECKING:
    import microstream as ms

__all__ = ["INTERRUPTED", "explain", "run"]

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes of a command that Ctrl-C or SIGTERM ended, as shells have them; 0 where SIGTERM stopped a query."""

Target = Annotated[
    str, typer.Argument(metavar="MODULE:FUNCTION", help="Returns sinks or a query, or starts one; as in app:main.")
]


def run(
    target: Target,
    name: Annotated[str | None, typer.Option(help="Name of the query.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Folder or URL of the checkpoint.")] = None,
    trigger: Annotated[
        str | None, typer.Option(help="A duration such as 1s, or continuously, or available_now. [default: 1s]")
    ] = None,
    client: Annotated[str | None, typer.Option(help="Address of a Dask scheduler. [default: a local cluster]")] = None,
    lanes: Annotated[int | None, typer.Option(min=1, help="Units of parallelism per stage.")] = None,
    takeover: Annotated[bool, typer.Option("--takeover", help="Take the checkpoint from another driver.")] = False,
    storage_option: StorageOptions = None,
    as_json: JsonOutput = False,
    log: Annotated[str | None, typer.Option(help="Log lines to stderr: plain or json.")] = None,
    log_level: Annotated[str, typer.Option(help="Least level of them.")] = "INFO",
) -> None:
    """Start a query and show its progress.

    Until it ends; SIGTERM and Ctrl-C stop it in order.
    """
    if log is not None:
        # The environment, because the workers of a local cluster inherit it.
        os.environ |= {"MICROSTREAM_LOG": log, "MICROSTREAM_LOG_LEVEL": log_level}
    from microstream.cli.watch import watch
    from microstream.observe.logs import logs_of_environment
    from microstream.runtime.query import stop_all
    from microstream.runtime.signals import LeftAtOnce, stopping_on_ctrl_c, stopping_on_sigterm

    logs_of_environment()
    options: dict[str, object] = {
        "name": name,
        "checkpoint": checkpoint,
        "trigger": trigger,
        "client": client,
        "lanes": lanes,
        "takeover": takeover or None,
        "storage_options": parsed_options(storage_option),
    }
    given = {option: value for option, value in options.items() if value is not None}
    with stopping_on_sigterm(stop_all) as terminated:
        try:
            made = made_by(target)
            if terminated.is_set() and not made.queries:
                raise typer.Exit(TERMINATED)
            queries = _started(target, made, given)
            if terminated.is_set():
                stop_all()  # it may have come before there was a query to stop
            with stopping_on_ctrl_c(stop_all) as pressed:
                watch(queries, as_json=as_json)
            if pressed.is_set():
                raise KeyboardInterrupt
        except (KeyboardInterrupt, LeftAtOnce):
            typer.echo("Stopped.", err=True)
            raise typer.Exit(INTERRUPTED) from None


def _started(target: str, made: Made, options: dict[str, object]) -> tuple[ms.StreamingQuery, ...]:
    import microstream as ms

    if not made.queries:
        triggers = {"continuously": ms.continuously, "available_now": ms.available_now}
        trigger = options.get("trigger")
        if isinstance(trigger, str) and trigger in triggers:
            options = {**options, "trigger": triggers[trigger]()}
        return (ms.start(*made.sinks, **options),)  # type: ignore[arg-type]
    if options:
        for query in made.queries:
            query.stop()
        named = ", ".join("--" + option.replace("_", "-") for option in options)
        raise PlanError(f"{target!r} starts its query itself, so {named} cannot change it. Let it return sinks.")
    return made.queries


def explain(target: Target) -> None:
    """Print the plan of a query, start nothing.

    As it is compiled: stages, exchanges, windows and guarantees.
    """
    from microstream.frame.sinks import explain as explained

    made = made_by(target)
    if made.queries:
        for query in made.queries:
            query.stop()
        raise PlanError(f"{target!r} starts its query. Let it return sinks, which can be explained without starting.")
    typer.echo(explained(*made.sinks))
