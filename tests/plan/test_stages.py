from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pyarrow as pa
import pytest
from plans import aggregate, filtered, sink, source

from microstream.errors import PlanError
from microstream.plan.explain import explain
from microstream.plan.expr import Column, Opaque
from microstream.plan.nodes import Assign, Concat, Filter, Late, Node, Project, Sink, WindowAggregate
from microstream.plan.stages import Stages, cut


def dear(frame: pd.DataFrame) -> pd.Series:
    return frame["price"] > 1


def cheap(frame: pd.DataFrame) -> pd.Series:
    return frame["price"] < 1


def shape(stages: Stages) -> list[list[str]]:
    return [[type(step.node).__name__ for step in stage.steps] for stage in stages.stages]


def test_stateless_steps_are_fused_with_the_source_that_feeds_them() -> None:
    stages = cut((sink(filtered(source())),))

    assert shape(stages) == [["Source", "Filter"]]
    assert stages.stages[0].steps[1].inputs == (0,)
    assert stages.stages[0].sinks == (("out", 1),)


def test_an_aggregate_is_fed_through_an_exchange_and_lives_one_level_up() -> None:
    stages = cut((sink(aggregate(filtered(source()), "totals")),))

    assert shape(stages) == [["Source", "Filter"], ["WindowAggregate"]]
    assert stages.stages[0].feeds == (("totals", 1),)
    assert stages.stages[1].sinks == (("out", 0),)
    (operator,) = stages.operators
    assert (operator.level, operator.inputs, operator.sources) == (1, (0,), ("bids",))
    assert operator.node is stages.stages[1].steps[0].node


def test_a_window_over_a_window_is_a_stage_above() -> None:
    first = aggregate(source())
    second = aggregate(first)

    stages = cut((sink(second),))

    assert [(o.id, o.level, o.inputs) for o in stages.operators] == [("aggregate-0", 1, (0,)), ("aggregate-1", 2, (1,))]
    assert len(stages.stages) == 3


def timeless(node: Node) -> Project:
    """Only the key of `node`."""
    schema = pa.schema([node.schema.field("auction")])
    return Project(child=node, exprs=(Column("auction"),), schema=schema, event_time=None)


def test_a_concat_of_two_levels_contributes_at_both() -> None:
    both = Concat(children=(timeless(source()), timeless(aggregate(source()))))

    stages = cut((sink(both),))

    assert shape(stages) == [["Source", "Project", "Concat"], ["WindowAggregate", "Project", "Concat"]]
    assert [stage.sinks for stage in stages.stages] == [(("out", 2),), (("out", 2),)]
    assert [stage.steps[-1].inputs for stage in stages.stages] == [(1,), (1,)]


def test_a_node_that_two_sinks_use_runs_once_in_its_stage() -> None:
    shared = filtered(source())

    stages = cut((sink(shared, "a"), sink(aggregate(shared), "b"), sink(shared, "c")))

    assert shape(stages) == [["Source", "Filter"], ["WindowAggregate"]]
    assert stages.stages[0].sinks == (("a", 1), ("c", 1))


def test_late_rows_leave_at_the_level_where_the_operator_reads() -> None:
    operator = aggregate(filtered(source()))

    stages = cut((sink(Late(operator=operator), "late"), sink(operator, "out")))

    (stage, above) = stages.stages
    assert stage.sinks == (("late", 2),)
    assert stage.steps[2].inputs == (1,)
    assert isinstance(stage.steps[2].node, Late)
    assert stage.steps[2].node.operator is above.steps[0].node
    assert stage.steps[2].node.operator.child is stage.steps[1].node


def test_an_operator_that_is_read_for_its_late_rows_only_still_runs() -> None:
    stages = cut((sink(Late(operator=aggregate(source()))),))

    assert [o.id for o in stages.operators] == ["aggregate-0"]
    assert shape(stages)[1] == ["WindowAggregate"]


def test_ids_and_fingerprint_do_not_depend_on_the_order_of_sinks() -> None:
    a, b = sink(aggregate(source()), "a"), sink(aggregate(filtered(source())), "b")

    one, other = cut((a, b)), cut((b, a))

    assert one.fingerprint == other.fingerprint
    assert [type(o.node.child) for o in one.operators] == [type(o.node.child) for o in other.operators]
    assert [s.name for s in other.sinks] == ["b", "a"]


def test_a_fingerprint_changes_with_the_plan() -> None:
    plans = [
        source(),
        filtered(source()),
        filtered(filtered(source())),
        aggregate(source()),
        aggregate(source(), "totals"),
        Filter(child=source(), predicate=Opaque(dear)),
        Filter(child=source(), predicate=Opaque(cheap)),
    ]

    assert len({cut((sink(plan),)).fingerprint for plan in plans}) == len(plans)


PROGRAM = """
import pandas as pd, microstream as ms
def double(frame): return frame["n"] * 2
frame = ms.from_pandas(pd.DataFrame({"n": [1], "s": ["x"]}))
frame = frame.assign(d=double, e=lambda f: f.n, m=ms.col("s").map(len), p=pd.col("n") + 1)
print(frame[frame["s"].isin({"a", "b", "c"})].explain())
"""


def test_a_plan_reads_the_same_in_every_process() -> None:
    runs = [subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True) for _ in "ab"]

    assert runs[0].stdout == runs[1].stdout
    assert "0x" not in runs[0].stdout


@pytest.mark.parametrize(
    ("sinks", "says"),
    [
        ((), "no sink"),
        ((sink(source()), sink(filtered(source()))), "two sinks are named 'out'"),
        ((sink(aggregate(source(), "x"), "a"), sink(aggregate(filtered(source()), "x"), "b")), "two operators"),
        (
            (sink(aggregate(source()), "a"), sink(aggregate(filtered(source()), "aggregate-0"), "b")),
            "'aggregate-0'",
        ),
    ],
)
def test_two_things_of_one_name_are_refused(sinks: tuple[Sink, ...], says: str) -> None:
    with pytest.raises(PlanError, match=says):
        cut(sinks)


def test_late_rows_cannot_feed_a_stateful_operator() -> None:
    late = Late(operator=aggregate(source()))

    with pytest.raises(PlanError, match="cannot feed a stateful operator"):
        aggregate(filtered(late))


def test_keys_must_be_plain_values() -> None:
    nested = Assign(child=source(), name="tags", expr=Opaque(len), dtype=pa.list_(pa.int64()))

    with pytest.raises(PlanError, match="keys must be plain"):
        aggregate(nested, key="tags")


def test_an_explanation_names_stages_exchanges_windows_watermarks_and_guarantees() -> None:
    operator: WindowAggregate = aggregate(filtered(source()), "totals")

    text = explain(cut((sink(operator), sink(Late(operator=operator), "late"))))

    for part in (
        "stage 0",
        "stage 1",
        "filter price > 100",
        "exchange by hash of auction to totals in stage 1",
        "tumbling(1min): n = size(auction)",
        "watermark: ts - 10s",
        "sink out: memory, exactly once within this process",
        "late rows <- [1]",
    ):
        assert part in text


def test_an_explanation_names_operators_without_a_name_by_their_id() -> None:
    text = explain(cut((sink(aggregate(source())),)))

    assert "aggregate aggregate-0 by auction in" in text
