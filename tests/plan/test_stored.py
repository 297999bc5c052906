from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import source

from microstream.errors import CheckpointError
from microstream.plan.nodes import Aggregate, MapBatches, Tumbling, WindowAggregate
from microstream.plan.stored import node_of, node_text

hows = st.sampled_from(["count", "sum", "min", "max", "mean"])
aggregates = st.lists(hows, max_size=4).map(
    lambda chosen: tuple(Aggregate(name=f"a{n}", column="price", how=how) for n, how in enumerate(chosen))
)
keys = st.sampled_from([(), ("auction",), ("note", "auction")])


@given(keys=keys, aggregates=aggregates, size_us=st.integers(1, 10**9), offset_us=st.integers(0, 100))
def test_a_node_that_comes_back_has_the_same_output_and_fields(
    keys: tuple[str, ...], aggregates: tuple[Aggregate, ...], size_us: int, offset_us: int
) -> None:
    window = Tumbling(size_us=size_us, offset_us=offset_us)
    node = WindowAggregate(child=source(), keys=keys, window=window, on="ts", aggregates=aggregates, id="totals")

    again: WindowAggregate = node_of(node_text(node))

    assert again.schema == node.schema
    assert replace(again, child=node.child) == node
    assert set(again.child.schema.names) <= set(node.child.schema.names)


def test_equal_nodes_are_one_text() -> None:
    nodes = [
        WindowAggregate(child=source(), keys=("auction",), window=Tumbling(size_us=1), on="ts", aggregates=())
        for _ in range(2)
    ]

    assert node_text(nodes[0]) == node_text(nodes[1])


def test_a_node_with_functions_of_its_program_is_not_put_into_words() -> None:
    def double(frame: Any) -> Any:
        return frame

    assert node_text(MapBatches(child=source(), fn=double, schema=pa.schema([]))) == ""


@pytest.mark.parametrize("text", ["", "{", '{"kind": "nodes.Nothing"}', '{"kind": "nodes.Tumbling", "size": 1}'])
def test_a_text_that_this_version_does_not_know_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match=r"Ask the running query instead: query.state\(...\)"):
        node_of(text)
