"""What defines a network's function and is no weight: read from both sides, and compared.

Batch norms' epsilon, strides, padding, the scales of residuals, which layer feeds which, how the
embeddings are normalised. A weight in the wrong place is the weights gate's; these are numbers that
no file of weights holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from parity_tests.model import Finding
from parity_tests.settings_graph import graph_settings
from parity_tests.settings_module import module_settings
from parity_tests.settings_words import Settings

__all__ = ["Settings", "compare_settings", "graph_settings", "module_settings"]

_MISSING = "is missing"
_EXTRA = "has no counterpart in the reference"


def compare_settings(expected: Settings, found: Settings) -> tuple[Finding, ...]:
    """One finding for each setting that differs, is missing or is extra; NaN equals nothing.

    A layer that only one side has is one finding. In the order of `expected`, extras last.
    """
    return tuple(_compare(expected, found))


def _compare(expected: Settings, found: Settings) -> Iterator[Finding]:
    for layer, settings in expected.items():
        if layer not in found:
            yield Finding(_named(layer), _MISSING)
            continue
        others = found[layer]
        for name, value in settings.items():
            if name not in others:
                yield Finding(_named(layer), f"{name} {_MISSING}", _text(value), "nothing")
            elif not _equal(value, others[name]):
                yield Finding(_named(layer), f"{name} differs", _text(value), _text(others[name]))
        for name, value in others.items():
            if name not in settings:
                yield Finding(_named(layer), f"{name} {_EXTRA}", "nothing", _text(value))
    for layer in found:
        if layer not in expected:
            yield Finding(_named(layer), _EXTRA)


def _equal(one: Any, other: Any) -> bool:
    """Equality as JSON has it: true is not 1, and NaN is not even itself."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def _named(layer: str) -> str:
    return layer or "the network"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
