"""The query of `word_count.py` in other Python engines: lines of text -> words per 10 s window -> Kafka.

    python benchmarks/word_count.py --lines 500000 --fill localhost:9092 lines
    python benchmarks/peers.py bytewax localhost:9092 lines counts

Each engine in an environment of its own that has it (`pip install bytewax orjson`, `quixstreams`, `pathway`), one
process each, as their documentation starts them. Topics must exist. Prints seconds, start and imports included, without
the silence after which Quix Streams ends.

What they promise differs: Quix Streams is run exactly once, Bytewax and Pathway without recovery; Pathway writes every
change of a count. What they write is not compared with anything here.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

# Engines that this project's environment does not have.
# mypy: ignore-errors

WINDOW_MS, WATERMARK_MS = 10_000, 4_000
SILENCE_S = 8.0


def bytewax(broker: str, source: str, target: str) -> float:
    """One worker, no recovery store."""
    import bytewax.operators as op
    import bytewax.operators.windowing as windowing
    import orjson
    from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
    from bytewax.dataflow import Dataflow
    from bytewax.run import cli_main

    flow = Dataflow("words")
    lines = op.input("lines", flow, KafkaSource([broker], [source], tail=False, batch_size=5_000))
    words = op.flat_map("words", lines, lambda m: [(word, m.timestamp[1] / 1000) for word in m.value.decode().split()])
    counted = windowing.fold_window(
        "counts",
        op.map("keyed", words, lambda pair: pair),
        windowing.EventClock(lambda at: datetime.fromtimestamp(at, UTC), timedelta(milliseconds=WATERMARK_MS)),
        windowing.TumblingWindower(timedelta(milliseconds=WINDOW_MS), datetime(2023, 1, 1, tzinfo=UTC)),
        lambda: 0,
        lambda count, _: count + 1,
        lambda one, other: one + other,
        ordered=False,
    )
    records = op.map(
        "records", counted.down, lambda row: KafkaSinkMessage(None, orjson.dumps({"word": row[0], "n": row[1][1]}))
    )
    op.output("out", records, KafkaSink([broker], target))
    cli_main(flow, workers_per_process=1)
    return 0.0


def quix(broker: str, source: str, target: str) -> float:
    """Exactly once, a commit per second; keys go through a topic of its own."""
    from quixstreams import Application
    from quixstreams.dataframe.windows import Count

    group = f"words{time.time():.0f}"
    app = Application(
        broker_address=broker,
        consumer_group=group,
        auto_offset_reset="earliest",
        loglevel="WARNING",
        processing_guarantee="exactly-once",
        commit_interval=1.0,
        state_dir=os.path.join(tempfile.gettempdir(), group),
    )
    lines = app.dataframe(app.topic(source, value_deserializer="str", key_deserializer="bytes"))
    words = lines.apply(str.split, expand=True)
    counted = (
        words.group_by(lambda word: word, name="word")
        .tumbling_window(timedelta(milliseconds=WINDOW_MS), grace_ms=timedelta(milliseconds=WATERMARK_MS))
        .agg(n=Count())
        .final(closing_strategy="partition")
    )
    counted.to_topic(app.topic(target, value_serializer="json", key_serializer="str"))
    app.run(timeout=SILENCE_S, collect=False)
    return SILENCE_S


def pathway(broker: str, source: str, target: str) -> float:
    """One worker, static mode, no persistence."""
    import pathway as pw

    settings = {"bootstrap.servers": broker, "group.id": f"words{time.time()}", "auto.offset.reset": "earliest"}
    lines = pw.io.kafka.read(
        settings, source, format="plaintext", mode="static", autocommit_duration_ms=1_000, with_metadata=True
    )
    at = pw.this._metadata["timestamp_millis"].as_int(unwrap=True)
    words = lines.select(word=pw.apply_with_type(str.split, list[str], pw.this.data), at=at).flatten(pw.this.word)
    counted = words.windowby(
        words.at,
        window=pw.temporal.tumbling(duration=WINDOW_MS),
        instance=words.word,
        behavior=pw.temporal.common_behavior(delay=0, cutoff=WATERMARK_MS, keep_results=False),
    ).reduce(word=pw.this._pw_instance, end=pw.this._pw_window_end, n=pw.reducers.count())
    pw.io.kafka.write(counted, {"bootstrap.servers": broker}, target, format="json")
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    return 0.0


ENGINES: dict[str, Callable[[str, str, str], float]] = {"bytewax": bytewax, "pathway": pathway, "quix": quix}

if __name__ == "__main__":
    name, *places = sys.argv[1:]
    began = time.time()
    waited = ENGINES[name](*places)
    print(f"{name}: {time.time() - began - waited:.1f} s")
