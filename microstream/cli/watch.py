"""Show running queries until all of them have ended: redrawn on a terminal, as lines elsewhere, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import microstream as ms

__all__ = ["watch"]

REFRESH_S = 0.25
PLAIN_EVERY = 40
"""Without a terminal, a line per query every so many refreshes: ten seconds."""


def watch(queries: Sequence[ms.StreamingQuery], *, as_json: bool) -> None:
    """Return when all `queries` have ended.

    Raises
    ------
    MicrostreamError
        The first error of one of them; the others are stopped.
    """
    from microstream.runtime.query import stop_all

    show, close = _json(queries) if as_json else _lines(queries)
    try:
        while any(query.is_active for query in queries):
            for query in queries:
                query.await_termination(REFRESH_S / len(queries))
            show()
        for query in queries:
            query.await_termination()
    except Exception:
        stop_all()
        raise
    finally:
        show()
        close()


def _json(queries: Sequence[ms.StreamingQuery]) -> tuple[Callable[[], None], Callable[[], None]]:
    """One line of JSON per progress event."""
    told = dict.fromkeys(queries, -1)

    def show() -> None:
        for query in queries:
            for event in query.recent_progress:
                if event["batchId"] > told[query]:
                    told[query] = event["batchId"]
                    typer.echo(json.dumps(event))

    return show, lambda: None


def _lines(queries: Sequence[ms.StreamingQuery]) -> tuple[Callable[[], None], Callable[[], None]]:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.text import Text

    from microstream.observe.display import progress_line

    console = Console()

    def lines() -> list[str]:
        return [f"{query.name}: {progress_line(query.last_progress, query.status)}" for query in queries]

    if console.is_terminal:
        live = Live(console=console, auto_refresh=False)
        live.start()
        return lambda: live.update(Group(*map(Text, lines())), refresh=True), live.stop

    shown: list[list[str]] = []
    looks = 0

    def show() -> None:
        nonlocal looks
        now = lines()
        ended = not any(query.is_active for query in queries)
        if (looks % PLAIN_EVERY == 0 or ended) and now not in shown[-1:]:
            shown[:] = [now]
            typer.echo("\n".join(now))
        looks += 1

    return show, lambda: None
