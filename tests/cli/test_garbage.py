"""Collections of the broker command: short, and never blind for ever."""

from __future__ import annotations

import gc
import weakref

import pytest

from trio_kafka_net.cli.garbage import LEAST_FROZEN, ShortCollections


class Knot:
    """A cycle of one."""

    def __init__(self):
        self.itself = self


@pytest.fixture
def collections():
    with ShortCollections() as collections:
        yield collections
    gc.unfreeze()


def test_nothing_is_collected_before_everything_has_settled(collections):
    assert not gc.isenabled()
    collections.settle()
    assert gc.isenabled()


def test_what_survives_a_full_collection_is_not_looked_at_again(collections):
    collections.settle()
    gc.collect()
    survivor = Knot()
    assert any(each is survivor for each in gc.get_objects())
    gc.collect()
    assert not any(each is survivor for each in gc.get_objects())


def test_a_full_collection_does_not_look_at_what_survived_a_shorter_one(collections):
    """Or it would come in the middle of a request that makes a hundred thousand objects."""
    collections.settle()
    survivor = Knot()
    gc.collect(0)
    assert any(each is survivor for each in gc.get_objects())
    gc.collect(1)
    assert not any(each is survivor for each in gc.get_objects())


def test_a_start_that_leaves_much_is_not_looked_at_at_once(collections):
    many = [[] for _ in range(2 * LEAST_FROZEN)]
    collections.settle()
    gc.collect()
    assert gc.get_freeze_count() > len(many)


def test_a_cycle_that_was_not_frozen_is_collected(collections):
    collections.settle()
    knot = weakref.ref(Knot())
    gc.collect()
    assert knot() is None


def test_a_frozen_cycle_is_collected_once_enough_is_frozen(collections):
    collections.settle()
    knot = Knot()
    gc.collect()
    knot = weakref.ref(knot)
    gc.collect()
    assert knot() is not None
    collections.look_again_above = 0
    gc.collect()  # finds that more is frozen, and lets it thaw
    gc.collect()
    assert knot() is None
    assert collections.look_again_above >= max(LEAST_FROZEN, gc.get_freeze_count())


def test_all_is_as_it_was_after_the_block():
    before = gc.get_threshold(), gc.callbacks[:]
    with ShortCollections() as collections:
        collections.settle()
        assert gc.get_threshold() != before[0]
    assert (gc.get_threshold(), gc.callbacks) == before
    assert gc.isenabled()
    gc.unfreeze()


def test_a_start_that_fails_leaves_the_collector_on():
    with pytest.raises(ZeroDivisionError), ShortCollections():
        raise ZeroDivisionError
    assert gc.isenabled()
