"""What a broker's port speaks, asked without the client library, and how that differs from `config=`.

A client that talks in plain text to a port that wants TLS, or to one that wants a user, sees connections that end, as
when a broker is away, and librdkafka says no more than "transport failure". Two requests tell them apart.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Listener", "difference", "listener_of"]

TIMEOUT_S = 1.0
SASL_HANDSHAKE = 17
ILLEGAL_SASL_STATE = 34
CORRELATION = 0x6D73
MOST_BYTES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Whether a port speaks TLS, and the ways to name a user that it offers; none: it wants no user."""

    tls: bool
    mechanisms: tuple[str, ...] = ()


def difference(listener: Listener, config: Mapping[str, Any]) -> str:
    """What must change in `config` before it can talk to `listener`; empty if that is not the matter.

    >>> difference(Listener(tls=True), {"security.protocol": "SSL"})
    ''
    >>> difference(Listener(tls=False, mechanisms=("PLAIN",)), {})
    "the port wants a user (PLAIN) and no TLS: set config={'security.protocol': 'SASL_PLAINTEXT', ...}"
    """
    chosen = str(config.get("security.protocol", "plaintext")).upper()
    wanted = ("SASL_" if listener.mechanisms else "") + ("SSL" if listener.tls else "PLAINTEXT")
    if chosen == wanted:
        return ""
    user = f"a user ({', '.join(listener.mechanisms)})" if listener.mechanisms else "no user"
    tls = "TLS" if listener.tls else "no TLS"
    return f"the port wants {user} and {tls}: set config={{'security.protocol': {wanted!r}, ...}}"


def listener_of(bootstrap_servers: str) -> Listener | None:
    """What the first port that answers speaks; None if none does."""
    for address in bootstrap_servers.split(","):
        host, _, port = address.strip().rpartition(":")
        if not port.isdigit():
            continue
        for tls in (False, True):
            try:
                mechanisms = _mechanisms(host.strip("[]"), int(port), tls)
            except (OSError, EOFError, struct.error, UnicodeDecodeError):
                continue
            return Listener(tls=tls, mechanisms=mechanisms)
    return None


def _mechanisms(host: str, port: int, tls: bool) -> tuple[str, ...]:
    """The answer to SaslHandshake v1, which every Kafka since 1.0 gives. Raises OSError, EOFError."""
    with socket.create_connection((host, port), TIMEOUT_S) as plain, _spoken(plain, host, tls) as line:
        line.settimeout(TIMEOUT_S)
        text = struct.pack(">hhi", SASL_HANDSHAKE, 1, CORRELATION) + _string("microstream") + _string("")
        line.sendall(struct.pack(">i", len(text)) + text)
        (size,) = struct.unpack(">i", _take(line, 4))
        if not 10 <= size <= MOST_BYTES:
            raise EOFError
        answer = _take(line, size)
    correlation, code, count = struct.unpack(">ihi", answer[:10])
    if correlation != CORRELATION:
        raise EOFError
    if code == ILLEGAL_SASL_STATE:
        return ()
    names, at = [], 10
    for _ in range(count):
        (length,) = struct.unpack(">h", answer[at : at + 2])
        names.append(answer[at + 2 : at + 2 + length].decode())
        at += 2 + length
    return tuple(sorted(names))


def _spoken(plain: socket.socket, host: str, tls: bool) -> socket.socket:
    if not tls:
        return plain
    # Only what is spoken is asked for; nothing is sent that needs to be kept from anyone.
    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    return anyone.wrap_socket(plain, server_hostname=host)


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


def _take(line: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = line.recv(size - len(found))
        if not more:
            raise EOFError
        found += more
    return found
