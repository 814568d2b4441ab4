"""The configuration of a Keras model: plain JSON beside the weights, read and never acted upon.

It may hold Python bytecode (of Lambda layers), which is counted and left alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_MAX_DEPTH = 8  # of models within models


@dataclass(frozen=True)
class Layer:
    """A layer as the configuration describes it.

    Args:
        name: Its name.
        kind: Its class as Keras spells it in paths, such as ``batch_normalization``.
        settings: Its settings, whatever they are.
        feeds: The names of the layers that it takes its input from.
        inner: The layers of a model within the model.
    """

    name: str
    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    feeds: tuple[str, ...] = ()
    inner: tuple[Layer, ...] = ()

    @property
    def has_bytecode(self) -> bool:
        """Return whether it is a Lambda layer of a function that is stored as Python bytecode."""
        function = self.settings.get("function")
        if isinstance(function, dict):
            return function.get("class_name") == "__lambda__"
        return self.kind == "lambda" and self.settings.get("function_type") == "lambda"


@dataclass(frozen=True)
class Config:
    """The layers of a model in its own order; none where a file has weights only."""

    layers: tuple[Layer, ...] = ()

    def walk(self) -> Iterator[Layer]:
        """Yield every layer, those of models within the model in place of these."""
        yield from _walk(self.layers)


def parse(text: str) -> Config:
    """Return the configuration in `text`.

    Raises:
        ValueError: It is no JSON, or not a model of Keras.

    Examples:
        >>> text = '{"class_name": "Sequential", "config": {"layers": [{"class_name": "Dense"}]}}'
        >>> parse(text).layers[0].kind
        'dense'
    """
    try:
        return Config(_layers(json.loads(text), 0))
    except (RecursionError, AttributeError, TypeError) as error:
        raise ValueError(f"not a model's configuration: {type(error).__name__}") from error


def _layers(model: Any, depth: int) -> tuple[Layer, ...]:
    if depth > _MAX_DEPTH:
        raise ValueError(f"models nested more than {_MAX_DEPTH} deep")
    settings = model.get("config", {})
    # Keras 1, and a Sequential before 2.2.3: the list itself.
    entries = settings if isinstance(settings, list) else settings.get("layers", [])
    return tuple(_layer(entry, depth) for entry in entries)


def _layer(entry: Any, depth: int) -> Layer:
    settings = entry.get("config", {})
    inner = _layers(entry, depth + 1) if _is_model(settings) else ()
    settings = settings if isinstance(settings, dict) else {}
    name = entry.get("name") or settings.get("name") or ""
    return Layer(
        str(name),
        _snake_case(str(entry.get("class_name", ""))),
        settings,
        tuple(dict.fromkeys(_feeds(entry.get("inbound_nodes", [])))),
        inner,
    )


def _is_model(settings: Any) -> bool:
    return isinstance(settings, list) or isinstance(settings.get("layers"), list)


def _feeds(node: Any) -> Iterator[str]:
    """Yield the layers' names in ``inbound_nodes``: each stands first in [NAME, node, tensor]."""
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list):
        if len(node) > 2 and isinstance(node[0], str) and type(node[1]) is int:
            yield node[0]
        else:
            for part in node:
                yield from _feeds(part)


def _snake_case(name: str) -> str:
    """Return a class's name as Keras' `to_snake_case` spells it (keras/src/utils/naming.py)."""
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


def _walk(layers: tuple[Layer, ...]) -> Iterator[Layer]:
    for layer in layers:
        if layer.inner:
            yield from _walk(layer.inner)
        else:
            yield layer
