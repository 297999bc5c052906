"""Who owns a checkpoint: one process of one boot of one host, told apart from its successors."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Owner", "is_alive", "this_process"]

PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """A driver. `id` is random, one per query start; `boot` names the boot *and* the process namespace.

    Two containers of one machine both have a process 1: without the namespace each would take the other for
    itself. `started` is when the process began, in clock ticks since boot (0: unknown), because numbers of
    processes are used again.
    """

    host: str
    boot: str
    pid: int
    started: int
    id: str

    def __str__(self) -> str:
        """The text in manifests: "host/boot/pid/started/id".

        >>> str(Owner(host="a", boot="b", pid=7, started=90, id="c"))
        'a/b/7/90/c'
        """
        return f"{self.host}/{self.boot}/{self.pid}/{self.started}/{self.id}"

    @property
    def process(self) -> str:
        """For people.

        >>> Owner(host="a", boot="b", pid=7, started=90, id="c").process
        'process 7 on a'
        """
        return f"process {self.pid} on {self.host}"

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """The owner that `text` names, or None if it is not of that form.

        >>> Owner.parse("a/b/7/90/c").pid, Owner.parse("somebody")
        (7, None)
        """
        match text.split("/"):
            case [host, boot, pid, started, id] if pid.isdecimal() and started.isdecimal():
                return cls(host=host, boot=boot, pid=int(pid), started=int(started), id=id)
            case _:
                return None


def this_process(id: str) -> Owner:
    """A query with the random `id` in this process."""
    pid = os.getpid()
    host = socket.gethostname().replace("/", "_")
    return Owner(host=host, boot=_boot(), pid=pid, started=_started(pid), id=id)


def is_alive(owner: Owner, *, active: Collection[str] = ()) -> bool:
    """Whether `owner`, of this boot of this host, still runs; in this process: whether its id is `active`."""
    if owner.pid == os.getpid() and owner.started == _started(owner.pid):
        return owner.id in active
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # It runs, as another user.
    return owner.started in (0, _started(owner.pid))


def _boot() -> str:
    """Boot id and process namespace; empty where a system has no /proc."""
    boot = namespace = ""
    with suppress(OSError):
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
    with suppress(OSError):
        namespace = os.readlink(PROC / "self/ns/pid").strip("pid:[]")
    return f"{boot}.{namespace}"


def _started(pid: int) -> int:
    """Field 22 of /proc/PID/stat, counted from the end of the command name, which may hold spaces."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[19])
