"""``release.toml``: the recipe of a release.

::

    [release]
    name = "facenet-weights"
    version = "1.0.0"

    [[model]]
    name = "20180402-114759-vggface2"
    source = "20180402-114759"
    [model.sha256]
    "model-20180402-114759.ckpt-275.index" = "…"

A model that has the name of a published file takes its defaults from the registry of
`facenet_models`. Messages give the path of a key, such as ``model[2].formats[1]``, counted from 1.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

from facenet_common.errors import UsageError
from facenet_models.networks import PREPROCESSING
from facenet_models.weights.registry import Pretrained, Weights
from facenet_release.documents.canonical_json import schema_validator
from facenet_release.errors import RecipeError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_BYTES = 64 << 10  # a recipe of five models has 2 kB
PARTS = ("all", "features", "logits")
FORMATS = ("pt", "safetensors")
IMAGE_SIZE = (160, 160)  # pixels, of the published Inception-ResNet-v1 models

KeyPath = tuple[str | int, ...]  # keys and indices from 0, as in the errors of jsonschema


@dataclass(frozen=True)
class Published:
    """Weights that were published before, to compare with."""

    file: str
    sha256: str


@dataclass(frozen=True)
class ModelRecipe:
    """One model of a recipe, with its defaults.

    `sha256` maps the names of the source's files to their hashes. If `parts` is None, all parts
    of the network are released. If `embedding_size` or `classes` is None, any size is accepted.
    """

    name: str
    source: str
    sha256: Mapping[str, str]
    training_set: str
    licence: str
    notes: str = ""
    step: int | None = None
    parts: tuple[str, ...] | None = None
    formats: tuple[str, ...] = FORMATS
    embedding_size: int | None = None
    classes: int | None = None
    image_size: tuple[int, int] = IMAGE_SIZE
    preprocessing: str = PREPROCESSING
    published: Published | None = None


@dataclass(frozen=True)
class Recipe:
    """A recipe that was read. `base` is the folder that relative paths start from."""

    file: Path
    base: Path
    data: bytes = field(repr=False)
    name: str
    version: str
    models: tuple[ModelRecipe, ...]

    def where(self, model: int, key: str) -> str:
        """Return the path of a key of a model, counted from 0, and the model's name."""
        return f"{_path(('model', model, key))}: {self.models[model].name}"


def read(file: Path, base: Path | None = None) -> Recipe:
    """Read a recipe.

    Args:
        file: The recipe.
        base: The folder that relative paths in it start from; by default its own folder.

    Raises:
        RecipeError: The recipe is wrong. It lists everything that is, with the paths of the keys.
        UsageError: The file can't be read.

    Examples:
        >>> [model.name for model in read(Path("release.toml")).models]  # doctest: +SKIP
        ['20180402-114759-vggface2', '20180408-102900-casia-webface', 'pnet', 'rnet', 'onet']
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError("the recipe can't be read", file=file, found=error.strerror) from error
    if len(data) > MAX_BYTES:
        raise RecipeError("the recipe is too large", [f"more than {MAX_BYTES} bytes"], file=file)
    try:
        value = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError too
        raise RecipeError("the recipe is not TOML", [error], file=file) from error
    problems = _problems(value)
    if problems:
        raise RecipeError("the recipe is wrong", problems, file=file)
    return Recipe(
        file=file,
        base=file.parent if base is None else base,
        data=data,
        name=value["release"]["name"],
        version=value["release"]["version"],
        models=tuple(map(_model, value["model"])),
    )


def published_weights(name: str) -> Weights | None:
    """Return the registry's entry of the published file ``NAME.pt``, or None.

    Examples:
        >>> published_weights("pnet").architecture, published_weights("mine")
        ('PNet', None)
    """
    return next((e.value for e in Pretrained if e.value.file == f"{name}.pt"), None)


def _problems(value: Mapping[str, Any]) -> list[str]:
    """Return everything that is wrong with a recipe: by its schema, and between its models."""
    problems: list[tuple[KeyPath, str]] = [
        (tuple(error.absolute_path), error.message)
        for error in schema_validator("recipe-1.schema.json").iter_errors(value)
    ]
    models = value.get("model")
    problems += _inconsistencies(models) if isinstance(models, list) else []
    problems.sort(key=itemgetter(0))
    return [f"{_path(path)}: {text}" if path else text for path, text in problems]


def _inconsistencies(models: list[Any]) -> list[tuple[KeyPath, str]]:
    """Return the problems that a schema can't describe."""
    problems: list[tuple[KeyPath, str]] = []
    names: list[str] = []
    for i, model in enumerate(models):
        if not isinstance(model, Mapping):
            continue  # which the schema has reported
        name = str(model.get("name", ""))
        if name.lower() in names:
            problems.append((("model", i, "name"), f"{name!r} is used twice"))
        names.append(name.lower())
        if published_weights(name) is not None:
            continue
        problems += [
            (("model", i), f"{key!r} is missing; only the published models have a default")
            for key in ("source", "training_set", "licence")
            if key not in model
        ]
    return problems


def _model(value: Mapping[str, Any]) -> ModelRecipe:
    name = value["name"]
    options: dict[str, Any] = {}
    weights = published_weights(name)
    if weights is not None:
        options |= {"training_set": weights.training_set, "licence": weights.licence}
        options |= {"embedding_size": weights.embedding_size, "classes": weights.classes}
        options |= {"image_size": weights.image_size, "preprocessing": weights.preprocessing}
        options["notes"] = f"Origin: {weights.origin}"
        options["source"] = weights.source
        options["sha256"] = {weights.source: weights.source_sha256} if weights.source_sha256 else {}
    options |= {key: option for key, option in value.items() if key != "published"}
    for key in ("parts", "formats"):
        if key in options:
            options[key] = tuple(options[key])
    published = value.get("published")
    return ModelRecipe(
        **{"sha256": {}, **options},
        published=Published(**published) if published else None,
    )


def _path(path: KeyPath) -> str:
    """Return a key path as text, with indices from 1."""
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text
