"""Whether a manifest names the files that a release has, no others, and its own recipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from facenet_common.errors import FacenetError
from facenet_release.documents import file_names as names
from facenet_release.documents.attestations import PARITY
from facenet_release.documents.bom import BOM
from facenet_release.documents.cards import README
from facenet_release.documents.manifest import Manifest, Model, Role
from facenet_release.documents.recipe import RECIPE, read
from facenet_release.errors import RecipeError

ALWAYS: dict[str, Role] = {RECIPE: "recipe", README: "card", PARITY: "statement", BOM: "bom"}


def check_structure(manifest: Manifest) -> Iterator[str]:
    """Which files are called or used otherwise than a build would have it."""
    expected = dict(ALWAYS)
    for model in manifest.models:
        yield from _misnamed(model)
        made = [(artifact.part, artifact.format) for artifact in model.artifacts]
        expected |= names.of_model(model.name, made)
    files = manifest.by_name()
    for name in sorted(expected.keys() - files.keys()):
        yield f"{name}: missing from the manifest"
    for name in sorted(files.keys() - expected.keys()):
        yield f"{name}: named in the manifest, and of no use in a release"
    for name in sorted(files.keys() & expected.keys()):
        if files[name].role != expected[name]:
            yield f"{name}: called {files[name].role}; it is {expected[name]}"


def _misnamed(model: Model) -> Iterator[str]:
    pairs = [
        (model.evidence, names.report(model.name, "pt")),
        (model.card, names.card(model.name)),
    ]
    for artifact in model.artifacts:
        pairs.append((artifact.file, names.weights(model.name, artifact.part, artifact.format)))
        pairs.append((artifact.evidence, names.report(model.name, artifact.format)))
        if artifact.format == "onnx" and artifact.part != "all":
            yield f"{artifact.file}: ONNX of {artifact.part} alone, which nothing judges"
    for found, expected in dict.fromkeys(pairs):
        if found != expected:
            yield f"{model.name}: {found} stands where {expected} belongs"


def check_recipe(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Where the recipe in the release, whose hash is right, is that of another one."""
    try:
        recipe = read(folder / RECIPE)
    except RecipeError as error:
        yield f"{RECIPE}: {error.problem}: {'; '.join(error.findings[:5])}"
        return
    except FacenetError as error:
        yield f"{RECIPE}: {error.problem}"
        return
    if (recipe.name, recipe.version) != (manifest.name, manifest.version):
        yield f"{RECIPE}: of {recipe.name} {recipe.version}"
    if [model.name for model in recipe.models] != [model.name for model in manifest.models]:
        yield f"{RECIPE}: of other models than the manifest says"
        return
    for said, model in zip(recipe.models, manifest.models, strict=True):
        if dict(said.sha256) != {source.name: source.sha256 for source in model.sources}:
            yield f"{RECIPE}: {model.name} is made from other sources than the manifest says"
