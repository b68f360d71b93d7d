"""The heap of groups against a plain list of deadlines."""

import math

import attrs
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.broker.coordinator.group_deadlines import GroupDeadlines


@attrs.define(eq=False)
class Thing:
    name: int
    scheduled: float = math.inf


steps = st.lists(
    st.one_of(
        st.tuples(st.just("schedule"), st.integers(0, 4), st.integers(0, 20)),
        st.tuples(st.just("forget"), st.integers(0, 4), st.none()),
        st.tuples(st.just("take"), st.none(), st.integers(0, 20)),
    ),
    max_size=30,
)


@given(steps)
def test_the_earliest_deadline_of_each_comes_up_once(steps):
    deadlines, things, model = GroupDeadlines(), [Thing(n) for n in range(5)], {}
    for step, name, time in steps:
        if step == "schedule":
            is_first = time < min(model.values(), default=math.inf)
            assert deadlines.schedule(things[name], time) <= (name not in model or is_first)
            model[name] = min(time, model.get(name, math.inf))
        elif step == "forget":
            deadlines.forget(things[name])
            model.pop(name, None)
        else:
            taken = set()
            while (thing := deadlines.take_due(time)) is not None:
                taken.add(thing.name)
            assert taken == {name for name, at in model.items() if at <= time}
            model = {name: at for name, at in model.items() if at > time}
        assert deadlines.next() <= min(model.values(), default=math.inf)
        assert all(things[name].scheduled == model.get(name, math.inf) for name in range(5))


def test_what_is_forgotten_does_not_pile_up():
    deadlines, kept = GroupDeadlines(), Thing(0)
    deadlines.schedule(kept, 5)
    for _ in range(1000):
        thing = Thing(1)
        deadlines.schedule(thing, 9)
        deadlines.forget(thing)

    assert len(deadlines) < 200
    assert deadlines.take_due(9) is kept
