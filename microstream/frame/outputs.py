"""Where rows of a frame can go beside Kafka and memory: each method adds one sink and returns it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from microstream.connectors.callback.sink import Batch, CallbackSink
from microstream.connectors.console.sink import ConsoleSink
from microstream.frame.sinks import OutputMode, StreamSink, require_append
from microstream.plan.nodes import Node, Sink

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Outputs"]


class Outputs:
    """Sinks as methods of a frame."""

    __slots__ = ()
    _node: Node

    def for_each_batch(
        self,
        fn: Callable[[pd.DataFrame, Batch], object],
        *,
        name: str = "for_each_batch",
        output_mode: OutputMode | None = None,
    ) -> StreamSink:
        """Call `fn(frame, batch)` on a worker with the rows that each lane has of each batch, once it is committed.

        At least once: after a failure `fn` may be called again with the same rows under the same `batch.id` and
        `batch.lane`. What it does is exactly once if doing it twice changes nothing, as with an upsert, or a file
        named by job, lane and id. It is never called without rows.

        An error of `fn` ends the query, as in Spark. Its batch stays pending in the checkpoint: the next start calls
        `fn` with the same rows again, before anything else of this sink.

        Parameters
        ----------
        fn
            Gets a pandas frame, and a batch with `id`, `lane`, `job`, `epoch` and `sink`. What it returns is ignored.
        name
            Of the sink within the query.
        output_mode
            "append": only final rows.

        Raises
        ------
        PlanError
            `fn` cannot be called with a frame and a batch.

        Examples
        --------
        >>> import pandas as pd
        >>> import microstream as ms
        >>> def write(frame, batch):
        ...     frame.to_csv(f"/data/{batch.job}-{batch.lane}-{batch.id}.csv")
        >>> ms.from_pandas(pd.DataFrame({"n": [1]})).for_each_batch(write)
        <sink 'for_each_batch': for_each_batch microstream.frame.outputs.write>
        """
        require_append("for_each_batch", output_mode)
        return StreamSink(Sink(child=self._node, name=name, spec=CallbackSink(fn=fn)))

    def to_console(self, rows: int = 20, *, name: str = "console", output_mode: OutputMode | None = None) -> StreamSink:
        """Print one table per batch to the standard output of the process that started the query.

        After a failure a batch may be printed again. Only what is printed travels to that process.

        Parameters
        ----------
        rows
            Rows of a batch that are printed at most, at least 1; the line above them says how many there were.
        name
            Of the sink within the query.
        output_mode
            "append": only final rows.
        """
        require_append("to_console", output_mode)
        return StreamSink(Sink(child=self._node, name=name, spec=ConsoleSink(rows=rows)))
