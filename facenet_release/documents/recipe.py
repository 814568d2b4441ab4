"""``release.toml``: what a release is made of.

::

    [release]
    name = "facenet-weights"
    version = "1.0.0"

    [[model]]
    name = "20180402-114759-vggface2"
    source = "20180402-114759"
    [model.sha256]
    "model-20180402-114759.ckpt-275.index" = "…"

A model whose name is that of a published file has what is known of it for defaults.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facenet_common.errors import UsageError
from facenet_models.networks import PREPROCESSING
from facenet_models.weights.registry import Pretrained, Weights
from facenet_release.documents.canonical_json import validator
from facenet_release.documents.recipe_lines import Place, line_of, lines
from facenet_release.errors import RecipeError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RECIPE = "release.toml"
MAX_BYTES = 64 << 10  # a recipe of five models has 2 kB
PARTS = ("all", "features", "logits")
FORMATS = ("pt", "safetensors")
IMAGE_SIZE = (160, 160)  # pixels, of the published Inception-ResNet-v1 models

# What the published models are converted from, by the name of the file that they become. Nobody
# published hashes of the two large ones; the others are src/align/det*.npy at 096ed77.
_SOURCES = {
    "20180402-114759-vggface2": "20180402-114759",
    "20180408-102900-casia-webface": "20180408-102900",
    "pnet": "det1.npy",
    "rnet": "det2.npy",
    "onet": "det3.npy",
}
_SHA256 = {
    "det1.npy": "3285cf7a3de2651c5784cb9e32013f5919aae95fd1ed1bc371dd9691affb39af",
    "det2.npy": "716b8b83e42476791c9096f14dbb09fefc88bf5c7ec876b1683f9acd52b3f39c",
    "det3.npy": "396ead803d85d3443307ff8f45fb6aed2536579b415a4f4d4cb8f93ea6b1476a",
}


@dataclass(frozen=True)
class Published:
    """Weights that were published before, to compare with."""

    file: str
    sha256: str


@dataclass(frozen=True)
class ModelRecipe:
    """One model of a recipe, defaults filled in.

    `sha256` maps the names of the source's files to their hashes. `parts` None stands for all that
    the network has. `embedding_size` and `classes` None: whatever the source has.
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
    """A recipe as it was read. `base` is the folder that relative paths start from."""

    file: Path
    base: Path
    data: bytes = field(repr=False)
    name: str
    version: str
    models: tuple[ModelRecipe, ...]

    def where(self, model: int, key: str = "") -> str:
        """The line of a model, counted from 0, or of one of its keys: as messages begin."""
        place: Place = ("model", model, key) if key else ("model", model)
        return f"line {line_of(lines(self.data.decode()), place)}: {self.models[model].name}"


def read(file: Path, base: Path | None = None) -> Recipe:
    """The recipe in `file`; relative paths in it start from `base`, by default its own folder.

    Raises RecipeError with everything that is wrong with it, and where; UsageError if it can't be
    read at all.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError("the recipe can't be read", file=file, found=error.strerror) from error
    if len(data) > MAX_BYTES:
        raise RecipeError("the recipe is too large", [f"more than {MAX_BYTES} bytes"], file=file)
    try:
        text = data.decode("utf-8")
        said = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are
        raise RecipeError("the recipe is not TOML", [error], file=file) from error
    problems = [
        (tuple(error.absolute_path), error.message)
        for error in validator("recipe-1.schema.json").iter_errors(said)
    ]
    models = said.get("model", [])
    if isinstance(models, list):
        problems += _inconsistencies([m for m in models if isinstance(m, Mapping)])
    if problems:
        places = lines(text)
        rows = sorted((line_of(places, place), place, what) for place, what in problems)
        raise RecipeError(
            "the recipe is wrong",
            [f"line {line}: {_named(place)}{what}" for line, place, what in rows],
            file=file,
        )
    return Recipe(
        file=file,
        base=file.parent if base is None else base,
        data=data,
        name=said["release"]["name"],
        version=said["release"]["version"],
        models=tuple(map(_model, models)),
    )


def known(name: str) -> Weights | None:
    """The published file of this name, without its ending."""
    return next((e.value for e in Pretrained if e.value.file == f"{name}.pt"), None)


def _inconsistencies(models: list[Mapping[str, Any]]) -> list[tuple[Place, str]]:
    """What no schema can say."""
    problems: list[tuple[Place, str]] = []
    names: list[str] = []
    for i, model in enumerate(models):
        name = str(model.get("name", ""))
        if name.lower() in names:
            problems.append((("model", i, "name"), f"{name!r} is used twice"))
        names.append(name.lower())
        if name in _SOURCES:
            continue
        problems += [
            (("model", i), f"{key!r} is missing; only the published models have a default")
            for key in ("source", "training_set", "licence")
            if key not in model
        ]
    return problems


def _model(said: Mapping[str, Any]) -> ModelRecipe:
    name = said["name"]
    values: dict[str, Any] = {"source": _SOURCES.get(name)}
    preset = known(name)
    if preset is not None:
        values |= {"training_set": preset.training_set, "licence": preset.licence}
        values |= {"embedding_size": preset.embedding_size, "classes": preset.classes}
        values |= {"image_size": preset.image_size, "preprocessing": preset.preprocessing}
        values["notes"] = f"Origin: {preset.origin}"
        source = _SOURCES[name]
        values["sha256"] = {source: _SHA256[source]} if source in _SHA256 else {}
    values |= {key: value for key, value in said.items() if key != "published"}
    for key in ("parts", "formats"):
        if key in values:
            values[key] = tuple(values[key])
    published = said.get("published")
    return ModelRecipe(
        **{"sha256": {}, **values},
        published=Published(**published) if published else None,
    )


def _named(place: Place) -> str:
    """A path as it would be written, with a colon; nothing for the top."""
    text = ""
    for part in place:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return f"{text}: " if text else ""
