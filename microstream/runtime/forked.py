"""Imports what a worker needs, in the process that workers are forked from. Nothing else imports it."""

from microstream.runtime.pauses import no_collections

with no_collections():
    import distributed.nanny  # noqa: F401

    import microstream.runtime.lanes  # noqa: F401
