"""Settings of the tests of facenet_common."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("facenet_common", max_examples=60, deadline=None, derandomize=True)
settings.load_profile("facenet_common")
