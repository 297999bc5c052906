"""Imports what a worker needs, in the process that workers are forked from. Nothing else imports it."""

import signal

from microstream.runtime.pauses import no_collections

# Ctrl-C reaches every process of the terminal; it is the query's process that ends its workers. In this one it was held
# until here; where it is not, it was a tool that imported this file.
if signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

with no_collections():
    import distributed.nanny  # noqa: F401

    import microstream.runtime.lanes  # noqa: F401
