from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from microstream.checkpoint.ranges import cut, merged

DATA = bytes(range(100))
RANGES = st.lists(st.tuples(st.integers(0, 110), st.integers(0, 30)), max_size=8)


@given(ranges=RANGES, gap=st.integers(0, 20))
def test_pieces_read_together_are_cut_apart_as_if_read_alone(ranges: list[tuple[int, int]], gap: int) -> None:
    spans = merged(ranges, gap)

    pieces = [DATA[start:end] for start, end in spans]

    assert cut(ranges, spans, pieces) == [DATA[offset : offset + length] for offset, length in ranges]
    assert all(second[0] - first[1] > gap for first, second in pairwise(spans))
