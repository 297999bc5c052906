"""What a user touches: every name of `import microstream as ms` comes from here."""

from __future__ import annotations

from microstream.connectors.callback.sink import Batch
from microstream.connectors.files.visible import open_parquet
from microstream.errors import (
    AbsentError,
    BadRecordError,
    CheckpointError,
    ConnectorError,
    FencedError,
    InternalError,
    MicrostreamError,
    OffsetExpiredError,
    PlanError,
    SettingError,
    UnreachableError,
    UserFunctionError,
)
from microstream.frame.aggregates import agg
from microstream.frame.columns import col
from microstream.frame.compute import compute
from microstream.frame.files import read_files
from microstream.frame.inference import infer_schema
from microstream.frame.sinks import StreamSink, start
from microstream.frame.sources import concat, from_pandas, read_kafka, read_rate
from microstream.frame.stream import StreamFrame
from microstream.frame.triggers import available_now, continuously, every
from microstream.frame.windows import sliding, tumbling
from microstream.runtime.opened import Checkpoint, open_checkpoint
from microstream.runtime.query import StreamingQuery, queries

__all__ = [
    "AbsentError",
    "BadRecordError",
    "Batch",
    "Checkpoint",
    "CheckpointError",
    "ConnectorError",
    "FencedError",
    "InternalError",
    "MicrostreamError",
    "OffsetExpiredError",
    "PlanError",
    "SettingError",
    "StreamFrame",
    "StreamSink",
    "StreamingQuery",
    "UnreachableError",
    "UserFunctionError",
    "agg",
    "available_now",
    "col",
    "compute",
    "concat",
    "continuously",
    "every",
    "from_pandas",
    "infer_schema",
    "open_checkpoint",
    "open_parquet",
    "queries",
    "read_files",
    "read_kafka",
    "read_rate",
    "sliding",
    "start",
    "tumbling",
]
