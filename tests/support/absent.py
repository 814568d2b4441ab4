"""Code that runs where libraries are not installed, as far as it can see."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection
from textwrap import dedent
from typing import Any


def run_without(
    absent: Collection[str], code: str, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run `code` in a process of its own, where importing any of `absent` raises ImportError.

    `options` are those of `subprocess.run`.
    """
    # A None in sys.modules forbids the import.
    block = f"import sys; sys.modules.update(dict.fromkeys({sorted(absent)!r}))\n"
    call = [sys.executable, "-c", block + dedent(code)]
    return subprocess.run(call, capture_output=True, text=True, check=False, **options)
