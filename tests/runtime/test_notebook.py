"""A notebook session against a real kernel: live display, a cell that is run again, an interrupted one."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Empty
from typing import Any

import pytest

pytest.importorskip("ipykernel")
client_module = pytest.importorskip("jupyter_client")

PATIENCE_S = 60

PREPARE = """
import dask
import microstream as ms
from microstream.testing.demo import TOPIC, BidStream, totals
from microstream.testing.inprocess import InProcessBroker

dask.config.set({"microstream.workers": 1})
broker = InProcessBroker()
broker.create_topic(TOPIC)
bids = ms.read_kafka(
    TOPIC,
    bootstrap_servers=broker.bootstrap_servers,
    schema={"auction": "int64", "price": "int64", "ts": "epoch[ms]"},
    event_time="ts",
    watermark="1s",
    start="earliest",
)
stream = BidStream(broker.bootstrap_servers, seconds=60)
stream.start()
"""

START = """
query = totals(bids).to_memory().start(name="live", trigger="100ms")
query
"""


class Notebook:
    """Cells run one after the other."""

    def __init__(self, kernel: Any, client: Any) -> None:
        self._kernel, self._client = kernel, client

    def run(self, code: str) -> str:
        """Printed text of a cell that must not fail, and the representation of its last expression."""
        cell = self._client.execute(code)
        printed = ""
        while (message := self.next())["content"].get("execution_state") != "idle" or not _is_of(message, cell):
            content = message["content"]
            if not _is_of(message, cell):
                continue
            assert message["msg_type"] != "error", "\n".join(content["traceback"])
            if message["msg_type"] == "stream":
                printed += content["text"]
            if message["msg_type"] in ("execute_result", "display_data"):
                printed += content["data"]["text/plain"]
        return printed

    def next(self) -> dict[str, Any]:
        """The next message that the front end would get."""
        message: dict[str, Any] = self._client.get_iopub_msg(timeout=PATIENCE_S)
        return message

    def until(self, wanted: str) -> dict[str, Any]:
        """The next message of type `wanted`."""
        while (message := self.next())["msg_type"] != wanted:
            assert message["msg_type"] != "error", "\n".join(message["content"]["traceback"])
        return message["content"]

    def start(self, code: str) -> None:
        """Run a cell and do not wait for it; if it fails, the next one runs all the same."""
        self._client.execute(code, stop_on_error=False)

    def interrupt(self) -> None:
        """The stop button."""
        self._kernel.interrupt_kernel()


def _is_of(message: dict[str, Any], cell: str) -> bool:
    return bool(message["parent_header"].get("msg_id") == cell)


@pytest.fixture
def notebook() -> Iterator[Notebook]:
    kernel, client = client_module.manager.start_new_kernel(kernel_name="python3")
    try:
        yield Notebook(kernel, client)
    except Empty:
        pytest.fail(f"the kernel said nothing for {PATIENCE_S} s")
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


def test_a_query_in_a_cell_is_redrawn_replaced_and_not_stopped_by_an_interrupt(notebook: Notebook) -> None:
    notebook.run(PREPARE)

    notebook.start(START)
    first = notebook.until("display_data")
    redrawn = notebook.until("update_display_data")

    assert redrawn["transient"]["display_id"] == first["transient"]["display_id"]
    assert "<table>" in redrawn["data"]["text/html"]
    assert redrawn["data"]["text/html"] != first["data"]["text/html"]

    notebook.run(f"before = query\n{START}")
    assert "False stopped True" in notebook.run("print(before.is_active, before.status, query.is_active)")

    notebook.start("print('waiting')\nquery.await_termination()")
    notebook.until("stream")
    notebook.interrupt()
    while notebook.next()["msg_type"] != "error":
        pass
    assert "True" in notebook.run("print(query.is_active)")
    assert "stopped" in notebook.run("query.stop(); print(query.status)")
