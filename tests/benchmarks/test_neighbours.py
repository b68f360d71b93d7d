"""What others worked is what all worked, without us."""

from __future__ import annotations

from neighbours import Moment, Neighbours


def test_what_we_did_is_not_others():
    before = Moment(wall=100.0, busy=50.0, steal=1.0, own=5.0)
    after = Moment(wall=110.0, busy=68.0, steal=1.0, own=22.0)
    found = Neighbours.between(before, after, processors=2, load=0.5)
    assert found == Neighbours(load=0.5, others=0.05, steal=0.0)
    assert found.are_quiet
    assert str(found) == "load 0.5 before, others 5%, steal 0%"


def test_others_and_a_thief_are_warned_of():
    before = Moment(wall=0.0, busy=0.0, steal=0.0, own=0.0)
    loud = Moment(wall=10.0, busy=18.0, steal=0.0, own=10.0)
    stolen = Moment(wall=10.0, busy=10.0, steal=1.0, own=10.0)
    for after in (loud, stolen):
        found = Neighbours.between(before, after, processors=2, load=0.0)
        assert not found.are_quiet
        assert str(found).endswith("WARNING, something else was running")


def test_rounding_of_clocks_is_nobody():
    before = Moment(wall=0.0, busy=0.0, steal=0.0, own=0.0)
    after = Moment(wall=0.0, busy=0.0, steal=0.0, own=0.3)
    assert Neighbours.between(before, after, processors=2, load=0.0).others == 0.0


def test_counters_only_grow():
    before = Moment.now()
    after = Moment.now()
    assert before.wall <= after.wall
    assert before.busy <= after.busy
    assert before.own <= after.own
