"""Settings of the converter's tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Derandomised: a failure in CI is a failure here. Raise max_examples to search on.
settings.register_profile(
    "converter",
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("converter")
