from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest
from plans import FRAMES, SCHEMA, aggregate, filtered, memory, sink, source

from microstream.errors import PlanError
from microstream.plan.expr import Call, Column, Literal, Opaque
from microstream.plan.nodes import Assign, Concat, Late, MapBatches, Node, Project, Source
from microstream.plan.rules import drop_noop_project, in_order, name_sources, optimise, rewrite


def project(child: Node, *names: str) -> Project:
    return Project(
        child=child,
        exprs=tuple(map(Column, names)),
        schema=pa.schema([child.schema.field(name) for name in names]),
        event_time="ts" if "ts" in names else None,
    )


def read_columns(node: Node) -> list[str]:
    """Columns that the only source of the optimised plan decodes."""
    (plan,) = optimise((sink(node),))
    (found,) = [n for n in in_order((plan.child,)) if isinstance(n, Source)]
    assert plan.child.schema.equals(node.schema)
    return found.schema.names


def test_a_source_reads_only_what_an_aggregate_and_its_filter_use() -> None:
    node = aggregate(filtered(source()))

    assert read_columns(node) == ["auction", "price", "ts"]


def test_columns_that_are_computed_but_not_used_are_not_computed() -> None:
    unused = Assign(child=source(), name="big", expr=Column("note"), dtype=pa.large_string())

    (plan,) = optimise((sink(aggregate(unused)),))

    assert not any(isinstance(node, Assign) for node in in_order((plan.child,)))
    assert read_columns(aggregate(unused)) == ["auction", "ts"]


def test_a_function_of_the_user_is_given_all_columns_of_its_frame() -> None:
    opaque = Assign(child=source(), name="eur", expr=Opaque(len), dtype=pa.float64())
    mapped = MapBatches(child=source(), fn=len, schema=pa.schema([pa.field("n", pa.int64())]))

    assert read_columns(project(opaque, "eur")) == SCHEMA.names
    assert read_columns(mapped) == SCHEMA.names


def test_late_rows_are_whole_rows() -> None:
    operator = aggregate(filtered(source()))

    assert read_columns(Late(operator=operator)) == SCHEMA.names


def test_a_source_that_two_sinks_use_reads_what_both_need_and_stays_one() -> None:
    shared = source()
    sinks = (sink(project(shared, "note"), "a"), sink(project(shared, "price"), "b"))

    plan = optimise(sinks)

    (found,) = [n for n in in_order(tuple(s.child for s in plan)) if isinstance(n, Source)]
    assert found.schema.names == ["price", "ts", "note"]


def test_children_of_a_concat_keep_equal_columns_when_one_cannot_drop_any() -> None:
    kept = MapBatches(child=source("b"), fn=len, schema=SCHEMA)
    node = project(Concat(children=(source("a"), kept)), "price", "ts")

    (plan,) = optimise((sink(node),))

    assert plan.child.schema.equals(node.schema)


def test_a_source_of_which_no_column_is_used_still_knows_its_rows() -> None:
    timeless = replace(source(), event_time=None)
    node = Project(child=timeless, exprs=(Literal(1),), schema=pa.schema([("one", pa.int64())]), event_time=None)

    assert read_columns(node) == ["auction"]


def test_a_projection_of_all_columns_in_order_is_dropped_and_others_are_not() -> None:
    child = source()

    assert drop_noop_project(project(child, *SCHEMA.names)) is child
    assert isinstance(drop_noop_project(project(child, *reversed(SCHEMA.names))), Project)


def test_a_rewrite_leaves_shared_nodes_shared_and_untouched_nodes_alone() -> None:
    shared = filtered(source())
    sinks = (sink(aggregate(shared), "a"), sink(shared, "b"))

    same = rewrite(sinks, lambda node: node)

    assert all(a.child is b.child for a, b in zip(same, sinks, strict=True))


def test_sources_without_a_name_are_numbered_by_kind() -> None:
    node = Concat(children=(source(""), replace(source(""), spec=memory())))

    (plan,) = name_sources((sink(node),))

    assert [n.name for n in in_order((plan.child,)) if isinstance(n, Source)] == ["memory-0", "memory-1"]


def test_one_source_written_twice_is_read_once_and_two_of_one_name_are_refused() -> None:
    twice = Concat(children=(source("bids"), filtered(source("bids"))))
    clash = Concat(children=(source("bids"), replace(source("bids"), spec=memory())))

    (plan,) = name_sources((sink(twice),))

    assert sum(isinstance(n, Source) for n in in_order((plan.child,))) == 1
    assert FRAMES is source().spec
    with pytest.raises(PlanError, match="two sources are named 'bids'"):
        name_sources((sink(clash),))


def test_a_replaced_column_keeps_its_place() -> None:
    dearer = Assign(child=source(), name="price", expr=Call("mul", (Literal(2), Column("auction"))), dtype=pa.float64())

    (plan,) = optimise((sink(dearer),))

    assert plan.child.schema.names == SCHEMA.names
