"""Who leads, and who counts as in sync, as tables."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_kafka_net.broker.elections import ElectionType, elected, reassigned, settled
from trio_kafka_net.broker.metadata_cache import NO_LEADER, PartitionMetadata
from trio_kafka_net.errors import KafkaError
from trio_kafka_net.protocol.error_codes import ErrorCode


def a_partition(leader=1, *, replicas=(1, 2, 3), isr=(1, 2, 3), epoch=5):
    return PartitionMetadata(replicas, isr, leader, leader_epoch=epoch, partition_epoch=9)


def told(state):
    return state and (state.leader_id, state.isr, state.leader_epoch)


@pytest.mark.parametrize(
    ("before", "living", "after"),
    [
        (a_partition(), {1, 2, 3}, None),
        # Whoever goes leaves the in-sync replicas; the leader stays, and its epoch.
        (a_partition(), {1, 2}, (1, (1, 2), 5)),
        # The first replica that is in sync leads next.
        (a_partition(), {2, 3}, (2, (2, 3), 6)),
        (a_partition(replicas=(1, 3, 2)), {2, 3}, (3, (2, 3), 6)),
        # Who comes back is in sync at once, and leads no one.
        (a_partition(2, isr=(2,)), {1, 2}, (2, (2, 1), 5)),
        # The last one stays in the list, alone able to lead again.
        (a_partition(3, isr=(3,)), set(), (NO_LEADER, (3,), 6)),
        (a_partition(NO_LEADER, isr=(3,), epoch=6), {1, 2}, None),
        (a_partition(NO_LEADER, isr=(3,), epoch=6), {1, 3}, (3, (3, 1), 7)),
        (a_partition(), {4}, (NO_LEADER, (1, 2, 3), 6)),
    ],
)
def test_leader_and_replicas_in_sync_when_brokers_come_and_go(before, living, after):
    assert told(settled(before, living)) == after


def test_new_leader_is_above_what_the_log_has_seen():
    assert settled(a_partition(), {2, 3}, known_epoch=7).leader_epoch == 8
    assert settled(a_partition(), {1, 2}, known_epoch=7).leader_epoch == 5


def test_every_change_is_a_new_partition_epoch():
    assert settled(a_partition(), {1, 2}).partition_epoch == 10


PREFERRED, UNCLEAN = ElectionType.PREFERRED, ElectionType.UNCLEAN


@pytest.mark.parametrize(
    ("before", "living", "kind", "after"),
    [
        (a_partition(2), {1, 2, 3}, PREFERRED, (1, (1, 2, 3), 6)),
        (a_partition(NO_LEADER, isr=(2,)), {3, 1}, UNCLEAN, (1, (1, 3), 6)),
        (a_partition(), {1, 2}, PREFERRED, ErrorCode.ELECTION_NOT_NEEDED),
        (a_partition(2), {1, 2}, UNCLEAN, ErrorCode.ELECTION_NOT_NEEDED),
        (a_partition(2), {2, 3}, PREFERRED, ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE),
        (a_partition(2, isr=(2,)), {1, 2}, PREFERRED, ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE),
        (a_partition(NO_LEADER), {4}, UNCLEAN, ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE),
    ],
)
def test_elections_that_are_asked_for(before, living, kind, after):
    if isinstance(after, ErrorCode):
        with pytest.raises(KafkaError) as refused:
            elected(before, living, kind)
        assert refused.value.code == after
    else:
        assert told(elected(before, living, kind)) == after


@pytest.mark.parametrize(
    ("replicas", "living", "after"),
    [
        ((1, 2, 3), {1, 2, 3}, None),
        ((3, 1), {1, 2, 3}, (1, (3, 1), 5)),
        ((3, 4), {1, 3, 4}, (3, (3, 4), 6)),
        ((4,), {1}, (NO_LEADER, (4,), 6)),
    ],
)
def test_reassigned_partition_keeps_its_leader_if_it_can(replicas, living, after):
    assert told(reassigned(a_partition(), replicas, living)) == after


@given(st.lists(st.sets(st.integers(1, 3)), max_size=20))
def test_leader_is_alive_and_in_sync_and_new_leaders_have_new_epochs(rounds):
    state = a_partition()
    for living in rounds:
        after = settled(state, living)
        if after is None:
            continue
        assert after.leader_id == NO_LEADER or after.leader_id in living & set(after.isr)
        assert set(after.isr) <= living or after.leader_id == NO_LEADER
        assert after.isr
        assert (after.leader_epoch > state.leader_epoch) == (after.leader_id != state.leader_id)
        assert settled(after, living) is None
        state = attrs.evolve(after)


def test_epochs_stay_within_what_a_request_can_carry():
    """A log that was told of the last epoch would keep every start from being announced."""
    after = settled(a_partition(), {2, 3}, known_epoch=2**31 - 1)

    assert (after.leader_id, after.leader_epoch, after.partition_epoch) == (2, 2**31 - 1, 10)
