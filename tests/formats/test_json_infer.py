from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.errors import PlanError
from microstream.formats.json import JsonDecoder
from microstream.formats.json_infer import Example, infer_fields

names = st.sampled_from(["a", "b", "c"])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
numbers = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False, width=32))
times = st.datetimes().map(lambda time: time.isoformat())


def of_kind(kind: Any) -> st.SearchStrategy[Any]:
    """Values that agree: of one kind, or null."""
    match kind:
        case "list", item:
            return st.none() | st.lists(of_kind(item), max_size=3)
        case "object", fields:
            optional = {name: of_kind(each) for name, each in fields.items()}
            return st.none() | st.fixed_dictionaries({}, optional=optional)
        case _:
            return st.none() | {"bool": st.booleans(), "number": numbers, "text": st.one_of(texts, times)}[kind]


plain = st.sampled_from(["bool", "number", "text"])
kinds = st.recursive(
    plain,
    lambda inner: st.one_of(
        st.tuples(st.just("list"), inner),
        st.tuples(st.just("object"), st.dictionaries(names, inner, max_size=2)),
    ),
    max_leaves=5,
)


def examples(*documents: Any) -> list[Example]:
    return [Example(f"t-0 offset {at}", json.dumps(each).encode()) for at, each in enumerate(documents)]


def inferred(*documents: Any, event_time: str | None = None) -> dict[str, str]:
    schema = infer_fields(examples(*documents), event_time=event_time, of="topic t")
    return {field.name: str(field.type) for field in schema}


@settings(deadline=None, max_examples=80)
@given(data=st.data(), fields=st.dictionaries(names, kinds, min_size=1))
def test_every_example_can_be_read_with_the_schema_inferred_from_all(
    data: st.DataObject, fields: dict[str, Any]
) -> None:
    documents = data.draw(st.lists(of_kind(("object", fields)).filter(lambda each: each is not None), max_size=8))
    some = examples(*documents, {"sure": 1})

    schema = infer_fields(some, event_time=None, of="these")

    decoded = JsonDecoder(schema).decode([each.record for each in some])
    assert decoded.bad == ()
    assert set(schema.names) <= {*fields, "sure"}


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        ([{"x": 1}, {"x": None}, {}], {"x": "int64"}),
        ([{"x": 1}, {"x": 1.5}], {"x": "double"}),
        ([{"x": 2**63}], {"x": "double"}),
        ([{"x": "2026-01-01T00:00:00Z"}, {"x": "2026-01-01 00:00"}], {"x": "timestamp[us]"}),
        ([{"x": "2026-01-01T00:00:00Z"}, {"x": "soon"}], {"x": "large_string"}),
        ([{"x": "2026-01-01"}], {"x": "large_string"}),
        ([{"x": [1, None, 2.5]}, {"x": []}], {"x": "list<item: double>"}),
        ([{"x": {"y": 1}}, {"x": {"z": True}}], {"x": "struct<y: int64, z: bool>"}),
        ([{"x": 1, "nothing": None, "empty": [], "hollow": {"a": None}}], {"x": "int64"}),
    ],
)
def test_fields_are_of_the_type_that_holds_all_examples(documents: list[Any], expected: dict[str, str]) -> None:
    assert inferred(*documents) == expected


@pytest.mark.parametrize(
    ("first", "unit"),
    [(1_700_000_000, "s"), (1_700_000_000_000, "ms"), (1_700_000_000_000_000, "us"), (17 * 10**17, "ns")],
)
def test_a_number_that_is_the_event_time_counts_in_the_unit_of_its_size(first: int, unit: str) -> None:
    documents = examples({"at": first}, {"at": None}, {"at": first + 1})

    schema = infer_fields(documents, event_time="at", of="t")

    assert schema.field("at").type == pa.timestamp("us")
    assert schema.field("at").metadata == {b"microstream": f"epoch[{unit}]".encode()}
    assert infer_fields(documents, event_time=None, of="t").field("at").type == pa.int64()


@pytest.mark.parametrize(
    ("documents", "says"),
    [
        ([{"x": 1}, {"x": "one"}], r"x is 1 in t-0 offset 0, but 'one' in t-0 offset 1"),
        ([{"x": {"y": [1]}}, {"x": {"y": [True]}}], r"x\.y is 1 in t-0 offset 0, but True in t-0 offset 1"),
        ([{"x": [1, "a"]}], "a list is 1 in t-0 offset 0, but 'a'"),
        ([{"x": 1}, [1]], r"t-0 offset 1 is .* not a JSON object"),
        ([], "there are no records with values"),
        ([{"x": None}], "there are no records with values"),
    ],
)
def test_examples_that_disagree_are_shown(documents: list[Any], says: str) -> None:
    with pytest.raises(PlanError, match=says):
        inferred(*documents)
