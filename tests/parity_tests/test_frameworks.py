"""TensorFlow and torch are imported on first use, and named where they are absent."""

from __future__ import annotations

import sys

import pytest

from facenet_common.errors import MissingPackageError
from parity_tests import frameworks


@pytest.mark.parametrize("missing", ["tensorflow", "torch"])
def test_missing_framework_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)  # importing it now fails as if it were absent
    extra = {"tensorflow": "parity", "torch": "torch"}[missing]
    with pytest.raises(MissingPackageError, match=rf'(?s){missing}, .*"facenet-parity\[{extra}\]"'):
        getattr(frameworks, missing)()
