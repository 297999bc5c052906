"""Views per page and minute over two topics, those of the web site and those of the app.

    python examples/feed.py clicks
    python examples/views_of_two_topics.py --once

The topics advance through event time together: a window closes when both have passed its end.
"""

from __future__ import annotations

import sys

from arguments import parser, run_options

import microstream as ms


def clicks(bootstrap_servers: str, topic: str, channel: str) -> ms.StreamFrame:
    """Clicks of one topic, with where they were made."""
    frame = ms.read_kafka(
        topic,
        bootstrap_servers=bootstrap_servers,
        schema={"page": "str", "ts": "timestamp[ms]"},
        event_time="ts",
        watermark="5s",
        start="earliest",
    )
    return frame.assign(channel=channel)


def views(web: ms.StreamFrame, app: ms.StreamFrame) -> ms.StreamFrame:
    """One row per page and minute: all views, and those in the app."""
    minutes = ms.concat([web, app]).groupby("page").window(ms.tumbling("1min"))
    in_app = ms.agg("page", "size", where=ms.col("channel") == "app")
    return minutes.agg(views=("page", "size"), in_app=in_app).named("views")


def main(arguments: list[str]) -> None:
    """Run until Ctrl-C, an error, or the end of what is there."""
    chosen = parser(__doc__, "views", web="clicks-web", app="clicks-app", target="views").parse_args(arguments)
    web = clicks(chosen.bootstrap_servers, chosen.web, "web")
    app = clicks(chosen.bootstrap_servers, chosen.app, "app")
    sink = views(web, app).to_kafka(chosen.target, key="page")
    ms.start(sink, name="views", **run_options(chosen)).await_termination()


if __name__ == "__main__":
    main(sys.argv[1:])
