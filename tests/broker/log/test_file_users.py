"""Who waits for whom when threads are at work on files."""

from __future__ import annotations

import threading

from trio_kafka_net.broker.log.file_users import FileUsers


def test_nobody_is_waited_for():
    users = FileUsers()
    users.wait()
    assert not users.is_busy


def test_the_last_of_several_is_waited_for():
    users = FileUsers()
    waiting = [threading.Thread(target=users.wait) for _ in range(2)]
    with users:
        with users:
            for thread in waiting:
                thread.start()
        assert users.is_busy
        assert all(thread.is_alive() for thread in waiting)
    for thread in waiting:
        thread.join(5)
    assert not any(thread.is_alive() for thread in waiting)
    assert not users.is_busy


def test_those_of_one_log_do_not_wait_for_those_of_another():
    busy, idle = FileUsers(), FileUsers()
    with busy:
        idle.wait()
    assert not busy.is_busy
