"""The driver's view of a Parquet folder at start: whether it can be written, and whose it is."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from microstream.checkpoint.probing import check_store
from microstream.checkpoint.store import ObjectStore
from microstream.connectors.files.log import FOLDER, Owner, newest_batch, owner_of, reaching
from microstream.errors import CheckpointError, ConnectorError

__all__ = ["ParquetProbe"]

ADVICE = (
    "This user must be allowed to list, read, write and delete below it; a folder needs a file system with hard links."
)


class ParquetProbe:
    """See `microstream.connectors.protocol.SinkProbe`."""

    def __init__(self, store: ObjectStore, partition_cols: Sequence[str]) -> None:
        self._store = store
        self._partition_cols = tuple(partition_cols)

    def check(self) -> None:
        """Raise ConnectorError if files cannot be made there, or somebody else's are."""
        where = f"to_parquet({self._store.url!r})"
        with reaching(where):
            is_ours = owner_of(self._store) is not None
            others = [] if is_ours else [key for key in self._store.list("") if not key.startswith(FOLDER)]
        if others:  # before anything is written: it is not for us to leave traces there
            raise ConnectorError(
                f"{where}: there are files that no query of microstream made, such as {others[0]}. Choose an empty "
                "folder, or one that is not there yet."
            )
        try:
            check_store(self._store, f"{FOLDER}probe/{uuid.uuid4().hex}", advice=ADVICE)
        except CheckpointError as problem:
            said = "; ".join(problem.problems)
            raise ConnectorError(f"{where}: {said}. {ADVICE}") from problem

    def markers(self, job: str, sink: str, lanes: Sequence[int]) -> Mapping[int, int | None]:
        """The newest visible batch, as the marker of lane 0: no other lane publishes. Makes a new folder the sink's.

        This is done before the first file is written: else a crash would leave files in a folder of nobody.
        """
        claim = Owner(job=job, sink=sink, partition_cols=self._partition_cols)
        with reaching(f"sink {sink!r}"):
            found = owner_of(self._store, claim=claim)
            assert found is not None
            self._check_owner(found, claim)
            newest = newest_batch(self._store)
        return {lane: newest if lane == 0 else None for lane in lanes}

    def close(self) -> None:
        """Nothing to let go of."""

    def _check_owner(self, found: Owner, claim: Owner) -> None:
        where = f"to_parquet({self._store.url!r})"
        if found.job != claim.job:
            raise ConnectorError(
                f"{where}: the folder belongs to the query with the checkpoint of job {found.job}, this one is "
                f"{claim.job}. Choose an empty folder, or start with that checkpoint."
            )
        if found.sink != claim.sink:
            raise ConnectorError(
                f"{where}: the folder belongs to sink {found.sink!r} of this query, this one is {claim.sink!r}. Choose "
                f"an empty folder, or write to_parquet(name={found.sink!r})."
            )
        if found.partition_cols != claim.partition_cols:
            raise ConnectorError(
                f"{where}: the folder is partitioned by {list(found.partition_cols)}, not by "
                f"{list(claim.partition_cols)}. Choose an empty folder, or write partition_cols="
                f"{list(found.partition_cols)}."
            )
