"""The signals that end a program which has something to put in order first."""

from __future__ import annotations

import signal


def stop_signals() -> tuple[signal.Signals, ...]:
    """Those of now: a terminal that hangs up is none for a program that was started to outlive it.

    Whoever is not told of it leaves data in memory behind, until another broker finds it.
    """
    stop = (signal.SIGTERM, signal.SIGINT)
    is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # nohup does that
    return stop if is_ignored else (*stop, signal.SIGHUP)
