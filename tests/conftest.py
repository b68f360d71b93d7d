"""Test-wide settings."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The same examples in every run: a failure is a change, and no run depends on the machine's speed.
settings.register_profile(
    "deterministic",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("deterministic")
