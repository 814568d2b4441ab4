"""From finished models to a whole release: all in its folder that is not weights or evidence.

Documents are made in an order in which each may speak of those before it: cards, then statements,
then the manifest, which names them all; the sums repeat it, and the provenance is about it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from os import environ
from pathlib import Path
from typing import Any

from converter import __version__
from facenet_common.atomic import write_file
from facenet_common.hashing import sha256_file
from facenet_release.building.builder import builder_of, versions
from facenet_release.building.inputs import CLASSES
from facenet_release.building.job import Result
from facenet_release.documents import file_names as names
from facenet_release.documents.attestations import PARITY, parity_statement, provenance
from facenet_release.documents.bom import BOM, bom
from facenet_release.documents.cards import README, model_card, release_readme
from facenet_release.documents.manifest import (
    MANIFEST,
    PROVENANCE,
    SUMS,
    Artifact,
    File,
    Manifest,
    Model,
    Role,
)
from facenet_release.documents.recipe import RECIPE, Recipe
from facenet_release.files import remove

SOFTWARE = f"facenet-parity {__version__}"


@dataclass
class _Folder:
    """The release's folder while it is filled, and what is in it so far."""

    path: Path
    files: list[File]

    def add(self, name: str, role: Role, data: bytes) -> None:
        """Write a file."""
        write_file(self.path / name, data)
        self.take(name, role, hashlib.sha256(data).hexdigest())

    def take(self, name: str, role: Role, sha256: str) -> None:
        """Take a file that is there, of that hash, to which the check at the end holds it."""
        self.files.append(File(name, (self.path / name).stat().st_size, sha256, role))


def assemble(folder: Path, recipe: Recipe, results: Sequence[Result], started: datetime) -> None:
    """Complete `folder`, which holds the results' files; remove what belongs to no release."""
    filled = _Folder(folder, [])
    filled.add(RECIPE, "recipe", recipe.data)
    for result in results:
        for made in result.made:
            filled.take(made.output.file, "weights", made.sha256)
        kinds = [(made.output.part, made.output.format) for made in result.made]
        for name, role in names.of_model(result.input.model.name, kinds).items():
            if role == "evidence":
                filled.take(name, role, sha256_file(folder / name))
    draft = _manifest(recipe, [_model(result) for result in results], filled)
    reports = read_reports(folder, draft)
    for model in draft.models:
        filled.add(model.card, "card", model_card(model, draft, reports).encode())
    filled.add(README, "card", release_readme(draft, reports).encode())
    draft = _manifest(recipe, draft.models, filled)
    filled.add(PARITY, "statement", parity_statement(draft, reports))
    filled.add(BOM, "bom", bom(draft, reports))
    whole = _manifest(recipe, draft.models, filled)
    data = whole.to_bytes()
    digest = hashlib.sha256(data).hexdigest()
    write_file(folder / MANIFEST, data)
    write_file(folder / SUMS, whole.sums(digest))
    statement = provenance(
        whole,
        digest,
        started=started,
        finished=max(started, datetime.now(timezone.utc)),  # clocks are set back now and then
        builder=builder_of(environ),
        versions=versions(),
    )
    write_file(folder / PROVENANCE, statement)
    wanted = {file.name for file in whole.files} | {MANIFEST, SUMS, PROVENANCE}
    for path in folder.iterdir():
        if path.name not in wanted:  # of another recipe, or half a file of a build that was killed
            remove(path)


def read_reports(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """Every parity report that the manifest's artifacts name, as JSON, under its file's name."""
    names = {artifact.evidence for model in manifest.models for artifact in model.artifacts}
    return {name: json.loads((folder / name).read_bytes()) for name in sorted(names)}


def _manifest(recipe: Recipe, models: Sequence[Model], filled: _Folder) -> Manifest:
    return Manifest(
        name=recipe.name,
        version=recipe.version,
        software=SOFTWARE,
        models=tuple(models),
        files=tuple(sorted(filled.files, key=lambda file: file.name)),
    )


def _model(result: Result) -> Model:
    said, one = result.input.model, result.input
    main = next(made for made in result.made if made.output == one.main)
    return Model(
        name=said.name,
        architecture=CLASSES[one.architecture],
        embedding_size=one.dims.get("embedding"),
        classes=one.dims.get("classes"),
        image_size=said.image_size,
        preprocessing=said.preprocessing,
        training_set=said.training_set,
        licence=said.licence,
        notes=said.notes,
        sources=one.files,
        artifacts=tuple(
            Artifact(m.output.file, m.output.part, m.output.format, m.tensor_digest, m.evidence)
            for m in result.made
        ),
        evidence=main.evidence,
        card=names.card(said.name),
    )
