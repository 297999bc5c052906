"""The marker: an offset committed inside the transaction of a batch, which proves that it was published."""

from __future__ import annotations

from dataclasses import dataclass

from confluent_kafka import TopicPartition

from microstream.connectors.protocol import MarkerAheadError
from microstream.errors import CheckpointError

__all__ = ["Marker", "chunks_done", "marker_group"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """Chunks 1 to `chunk` of `chunks` of `batch` are published; -1 where nothing is."""

    batch: int = -1
    chunk: int = 1
    chunks: int = 1

    @classmethod
    def of(cls, committed: TopicPartition) -> Marker:
        """What a committed offset says; an offset below zero means that none is known."""
        if committed.offset < 0:
            return cls()
        chunk, _, chunks = (committed.metadata or "1/1").partition("/")
        return cls(batch=committed.offset, chunk=int(chunk), chunks=int(chunks))

    def at(self, topic: str) -> TopicPartition:
        """The offset to commit, on partition 0 of the target topic."""
        return TopicPartition(topic, 0, self.batch, metadata=f"{self.chunk}/{self.chunks}")


def marker_group(job: str, sink: str, lane: int) -> str:
    """The consumer group that holds the marker of a sink lane, and the lane's transactional id."""
    return f"ms-{job}-{sink}-{lane}"


def chunks_done(marker: Marker, *, batch: int, chunks: int, committed: int, sink: str, lane: int) -> int:
    """How many of the `chunks` of `batch` the sink has already; `committed` is the newest batch known to be durable.

    Raises
    ------
    MarkerAheadError
        The sink is ahead of `committed`.
    CheckpointError
        The batch was cut into another number of chunks when it was published.

    >>> chunks_done(Marker(batch=6), batch=7, chunks=3, committed=7, sink="out", lane=0)
    0
    >>> chunks_done(Marker(batch=7, chunk=2, chunks=3), batch=7, chunks=3, committed=7, sink="out", lane=0)
    2
    >>> chunks_done(Marker(batch=8), batch=7, chunks=3, committed=8, sink="out", lane=0)
    3
    """
    if marker.batch < batch:
        return 0
    if marker.batch > batch:
        if marker.batch <= committed:
            return chunks
        raise MarkerAheadError(
            f"sink {sink!r}, lane {lane}: Kafka holds batch {marker.batch}, but only batch {committed} is known to be "
            "committed. Another driver went on, or the checkpoint was rolled back to an older copy.",
            marker=marker.batch,
            committed=committed,
            sink=sink,
            lane=lane,
        )
    if marker.chunks != chunks:
        raise CheckpointError.of(
            f"sink {sink!r}, lane {lane}",
            [f"batch {batch} was published in {marker.chunks} chunks, the outbox holds {chunks}"],
            "The checkpoint was changed; restore the one that this topic was written from.",
        )
    return marker.chunk
