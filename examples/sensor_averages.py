"""Average temperature per sensor and minute; readings that come too late go to a topic of their own.

    python examples/feed.py readings
    python examples/sensor_averages.py --once

Both topics are written by one query, so that a reading is in an average or in the late topic, never in both or neither.
"""

from __future__ import annotations

import sys

from arguments import parser, run_options

import microstream as ms


def averages(readings: ms.StreamFrame) -> ms.StreamFrame:
    """Mean and number of the readings of each sensor and minute; the late ones are its `.late`."""
    minutes = readings.groupby("sensor").window(ms.tumbling("1min"))
    return minutes.agg(celsius=("celsius", "mean"), n=("celsius", "count")).named("averages")


def main(arguments: list[str]) -> None:
    """Run until Ctrl-C, an error, or the end of what is there."""
    options = parser(__doc__, "sensor-averages", source="readings", target="averages", late="late-readings")
    chosen = options.parse_args(arguments)
    readings = ms.read_kafka(
        chosen.source,
        bootstrap_servers=chosen.bootstrap_servers,
        schema={"sensor": "str", "celsius": "float64", "ts": "timestamp[ms]"},
        event_time="ts",
        watermark="10s",
        start="earliest",
    )
    result = averages(readings)
    sinks = result.to_kafka(chosen.target, key="sensor"), result.late.to_kafka(chosen.late, key="sensor")
    ms.start(*sinks, name="sensor-averages", **run_options(chosen)).await_termination()


if __name__ == "__main__":
    main(sys.argv[1:])
