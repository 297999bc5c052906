from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microstream.checkpoint.owner import Owner, is_alive, this_process

WORDS = st.text(st.characters(exclude_characters="/"), max_size=9)
NAMED = "from microstream.checkpoint.owner import this_process; print(this_process('child'), flush=True); input()"


@given(host=WORDS, boot=WORDS, pid=st.integers(0, 2**31), started=st.integers(0, 2**63), id=WORDS)
def test_an_owner_comes_back_from_its_text(host: str, boot: str, pid: int, started: int, id: str) -> None:
    owner = Owner(host=host, boot=boot, pid=pid, started=started, id=id)

    assert Owner.parse(str(owner)) == owner


@pytest.mark.parametrize("text", ["", "me", "a/b/c", "a/b/x/1/c", "a/b/1/-1/c", "a/b/1/2/c/d"])
def test_other_text_is_no_owner(text: str) -> None:
    assert Owner.parse(text) is None


def test_this_process_runs_a_query_only_if_its_id_is_active() -> None:
    me = this_process("mine")

    assert me.pid == os.getpid()
    assert is_alive(me, active={"mine"})
    assert not is_alive(me, active={"another"})


def test_another_process_is_alive_until_it_ends() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", NAMED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        owner = Owner.parse(child.stdout.readline().strip())
        assert owner is not None
        assert (owner.host, owner.boot) == (this_process("me").host, this_process("me").boot)

        assert is_alive(owner)
        assert not is_alive(replace(owner, started=owner.started + 1))

        child.communicate("\n")
    assert not is_alive(owner)


def test_a_number_that_this_process_took_over_from_a_dead_one_is_not_alive() -> None:
    me = this_process("mine")

    assert not is_alive(replace(me, started=me.started - 1), active={"mine"})
