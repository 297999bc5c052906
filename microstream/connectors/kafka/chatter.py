"""librdkafka's own log lines: through our logger, and not one per reconnect.

Each client of each lane says the same while a broker is away, many times a second.
"""

from __future__ import annotations

import logging
import re
import threading

__all__ = ["EVERY_S", "Seldom", "client_log"]

EVERY_S = 30.0
"""The same line again at most that often; it then says how often it was not shown."""

MOST_KINDS = 256
NUMBER = re.compile(r"\d+")
BROKER = re.compile(r"^\[thrd:[^]]*\]")


class Seldom(logging.Filter):
    """Lets the first line of a kind through, and one every 30 s.

    Lines of one kind are about the same broker, have one facility ("FAIL") and differ at most in numbers and in the
    client that says it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._shown: dict[tuple[str, ...], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether `record` is shown; librdkafka's come as "%s [%s] %s" of facility, client and text."""
        facility, text = _facility_and_text(record)
        broker = BROKER.match(text)
        kind = (facility, broker[0] if broker else "", NUMBER.sub("#", text))
        with self._lock:
            shown_s, held = self._shown.get(kind, (None, 0))
            if shown_s is not None and record.created - shown_s < EVERY_S:
                self._shown[kind] = (shown_s, held + 1)
                return False
            if len(self._shown) >= MOST_KINDS:
                self._shown.clear()
            self._shown[kind] = (record.created, 0)
        if held:
            record.msg, record.args = f"{record.getMessage()} ({held} like it not shown)", ()
        return True


def _facility_and_text(record: logging.LogRecord) -> tuple[str, str]:
    match record.args:
        case (facility, _client, text):
            return str(facility), str(text)
        case _:
            return "", record.getMessage()


def client_log() -> logging.Logger:
    """Where clients log: `microstream.kafka.client`, below `microstream.kafka`."""
    return _LOG


_LOG = logging.getLogger("microstream.kafka.client")
_LOG.addFilter(Seldom())
