from __future__ import annotations

import io
import sys

import pandas as pd
import pytest

from microstream.observe.console import print_batch

FRAME = pd.DataFrame({"key": ["a", "[b]"], "n": [1, 2], "long": ["x" * 60, "y"]})


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_batch_is_printed_as_pandas_prints_it_with_a_line_above(capsys: pytest.CaptureFixture[str]) -> None:
    print_batch("totals", 3, FRAME, 1_000)

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "totals, batch 3: 1,000 rows, the first 2"
    assert lines[1].split() == ["key", "n", "long"]
    assert lines[2].endswith("...")


def test_a_terminal_gets_a_table_in_which_no_text_is_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)

    print_batch("totals", 3, FRAME, 2)

    text = terminal.getvalue()
    assert "totals, batch 3: 2 rows" in text
    assert "[b]" in text
    assert "…" in text


def test_output_that_nobody_reads_any_more_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)

    print_batch("totals", 3, FRAME, 2)
