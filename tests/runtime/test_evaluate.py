from __future__ import annotations

import numpy as np
import pyarrow as pa
from queries import Row, frames, table, to_memory, totals

from microstream.clock import BEGINNING_US
from microstream.operators.aggregate import merge, partial_schema
from microstream.operators.rows import Rows
from microstream.plan.nodes import Concat, Late, Node, WindowAggregate
from microstream.plan.stages import Stages
from microstream.runtime.evaluate import Leaving, evaluate
from microstream.state.lanes import lane_starts


def rows_of(rows: list[Row]) -> Rows:
    return Rows(table=table(rows), origin=np.arange(len(rows)))


def run(
    stages: Stages, level: int, entering: dict[int, Rows | None], late: int = BEGINNING_US, lanes: int = 1
) -> Leaving:
    watermarks = dict.fromkeys((o.id for o in stages.operators), late)
    return evaluate(stages.stages[level], entering, stages.operators, watermarks, watermarks, lane_starts(lanes), {})


def values(found: Leaving) -> dict[str, list[int]]:
    return {name: rows.table.column("value").to_pylist() for name, rows in found.sinks}


def node_of(stages: Stages, kind: type) -> Node:
    return next(s.node for stage in stages.stages for s in stage.steps if isinstance(s.node, kind))


def test_every_lane_gets_an_element_of_every_operator_even_without_rows() -> None:
    stages = to_memory(out=totals(frames(), id="totals"))

    nothing = run(stages, 0, {}, lanes=3)
    all_late = run(stages, 0, {id(stages.sources[0]): rows_of([("a", 1, 5)])}, late=100, lanes=3)

    [operator] = stages.operators
    for leaving in (nothing, all_late):
        assert [t.num_rows for t in leaving.exchange["totals"]] == [0, 0, 0]
        assert all(t.schema.equals(partial_schema(operator.node)) for t in leaving.exchange["totals"])


def test_the_elements_of_all_lanes_together_are_the_partials_of_the_rows() -> None:
    stages = to_memory(out=totals(frames(), id="totals"))
    rows = rows_of([(f"key-{n % 7}", n, n) for n in range(50)])
    node = stages.operators[0].node

    one = run(stages, 0, {id(stages.sources[0]): rows})
    many = run(stages, 0, {id(stages.sources[0]): rows}, lanes=5)

    order = [("window_end", "ascending"), ("key", "ascending")]
    whole = pa.concat_tables(many.exchange["totals"])
    assert merge(whole, node).num_rows == whole.num_rows
    assert whole.sort_by(order).equals(one.exchange["totals"][0].sort_by(order))  # type: ignore[arg-type]


def test_late_rows_go_to_their_sink_and_are_counted_and_the_others_to_the_exchange() -> None:
    operator = totals(frames(), id="totals")
    stages = to_memory(late=Late(operator=operator), all=operator.child)

    leaving = run(stages, 0, {id(stages.sources[0]): rows_of([("a", 1, 5), ("a", 2, 25), ("a", 3, 9)])}, late=10)

    assert leaving.late_rows == {"totals": 2}
    assert values(leaving) == {"late": [1, 3], "all": [1, 2, 3]}
    assert [t.num_rows for t in leaving.exchange["totals"]] == [1]


def test_a_sink_without_rows_gets_nothing() -> None:
    stages = to_memory(all=frames())

    assert run(stages, 0, {id(stages.sources[0]): None}).sinks == []
    assert run(stages, 0, {}).sinks == []


def test_two_operators_over_the_same_rows_get_each_their_own() -> None:
    source = frames()
    stages = to_memory(a=totals(source, id="short"), b=totals(source, size_us=100, id="long"))
    rows = rows_of([("a", 1, 5), ("a", 2, 25)])

    leaving = run(stages, 0, {id(stages.sources[0]): rows})

    assert {name: tables[0].num_rows for name, tables in leaving.exchange.items()} == {"short": 2, "long": 1}


def test_rows_of_closed_windows_enter_at_their_level() -> None:
    inner = totals(frames(), id="inner")
    stages = to_memory(both=Concat(children=(inner, inner)))
    closed = node_of(stages, WindowAggregate)
    row = dict.fromkeys(inner.schema.names, 0) | {"key": "a"}
    rows = Rows(table=pa.Table.from_pylist([row], schema=inner.schema), origin=None)

    assert run(stages, 0, {}).sinks == []
    assert [(name, len(found)) for name, found in run(stages, 1, {id(closed): rows}).sinks] == [("both", 2)]
