from __future__ import annotations

import pytest

from trio_kafka_net.errors import LocalProtocolError
from trio_kafka_net.network.connection import Connection, MuteEvent, MuteState
from trio_kafka_net.network.framing import Receive

E = MuteEvent
NOT, MUTED = MuteState.NOT_MUTED, MuteState.MUTED
RESP, THR = MuteState.MUTED_AND_RESPONSE_PENDING, MuteState.MUTED_AND_THROTTLED
BOTH = MuteState.MUTED_AND_THROTTLED_AND_RESPONSE_PENDING

LEGAL = {
    (NOT, E.MUTE): MUTED,
    (NOT, E.UNMUTE): NOT,
    (MUTED, E.MUTE): MUTED,
    (MUTED, E.REQUEST_RECEIVED): RESP,
    (MUTED, E.UNMUTE): NOT,
    (RESP, E.MUTE): RESP,
    (RESP, E.RESPONSE_SENT): MUTED,
    (RESP, E.THROTTLE_STARTED): BOTH,
    (RESP, E.UNMUTE): RESP,
    (THR, E.MUTE): THR,
    (THR, E.THROTTLE_ENDED): MUTED,
    (THR, E.UNMUTE): THR,
    (BOTH, E.MUTE): BOTH,
    (BOTH, E.RESPONSE_SENT): THR,
    (BOTH, E.THROTTLE_ENDED): RESP,
    (BOTH, E.UNMUTE): BOTH,
}


class Silent:
    """Stands in for a transport and a Processor: nothing is sent or received here."""

    listener_name = "PLAINTEXT"
    is_privileged = False

    def fileno(self) -> int:
        return 3


def connection() -> Connection:
    receive = Receive(100, lambda size: None)
    return Connection("a:1-b:2-0-0", Silent(), receive=receive, processor=Silent())


@pytest.mark.parametrize("state", MuteState)
@pytest.mark.parametrize("event", MuteEvent)
def test_mute_table(state, event):
    """KC-03, GX-14: every state × event; what LEGAL does not have is refused."""
    subject = connection()
    subject.mute_state = state
    if (state, event) in LEGAL:
        subject.on(event)
        assert LEGAL[state, event] is subject.mute_state
    else:
        with pytest.raises(LocalProtocolError, match=f"{event.name} is illegal in {state.name}"):
            subject.on(event)
        assert state is subject.mute_state


def test_a_new_connection_is_read():
    assert not connection().is_muted
