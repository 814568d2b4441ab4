"""Write the documents of a release from its finished models.

Each document may describe those before it: first the cards, then the attestations, then the
manifest, which names them all; the sums repeat it, and the provenance describes it.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from os import environ
from pathlib import Path
from typing import Any

from converter import __version__
from converter.architectures import ARCHITECTURES
from facenet_common.atomic import remove, write_file
from facenet_common.hashing import sha256_file
from facenet_common.installed import versions_of
from facenet_release.building.job import JobResult
from facenet_release.documents.attestations import Builder, parity_attestation, provenance
from facenet_release.documents.bom import bill_of_materials
from facenet_release.documents.cards import model_card, release_readme
from facenet_release.documents.manifest import (
    BOM,
    MANIFEST,
    PARITY,
    PROVENANCE,
    README,
    RECIPE,
    SUMS,
    Artifact,
    File,
    Manifest,
    Model,
    Role,
    card_file,
    model_files,
)
from facenet_release.documents.recipe import Recipe

SOFTWARE = f"facenet-parity {__version__}"
LOCAL_BUILDER = "facenet-parity:builder/local"
PACKAGES = ("facenet-parity", "numpy", "onnx", "onnxruntime", "safetensors", "tensorflow", "torch")

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass
class _Draft:
    """The folder of a release and the part of its manifest that is known so far."""

    folder: Path
    recipe: Recipe
    models: tuple[Model, ...]
    files: list[File] = field(default_factory=list)

    def write(self, name: str, role: Role, data: bytes) -> None:
        write_file(self.folder / name, data)
        self.add(name, role, hashlib.sha256(data).hexdigest())

    def add(self, name: str, role: Role, sha256: str) -> None:
        self.files.append(File(name, (self.folder / name).stat().st_size, sha256, role))

    def manifest(self) -> Manifest:
        return Manifest(
            name=self.recipe.name,
            version=self.recipe.version,
            software=SOFTWARE,
            models=self.models,
            files=tuple(sorted(self.files, key=lambda file: file.name)),
        )


def assemble(folder: Path, recipe: Recipe, results: Sequence[JobResult], started: datetime) -> None:
    """Complete a release: write its documents, remove all files that are not part of it.

    Args:
        folder: The folder, which holds the files of all results.
        recipe: The recipe.
        results: The finished models, in the recipe's order.
        started: The time at which the build started, with a time zone.

    Raises:
        OutputError: A file can't be written or removed.
        MissingPackageError: A package of the extra `release` is not installed.

    Examples:
        >>> assemble(work.release, recipe, results, datetime.now(timezone.utc))  # doctest: +SKIP
    """
    draft = _Draft(folder, recipe, tuple(map(_model, results)))
    _add_models(draft, results)
    _write_documents(draft)
    manifest = draft.manifest()
    data = manifest.to_bytes()
    digest = hashlib.sha256(data).hexdigest()
    write_file(folder / MANIFEST, data)
    write_file(folder / SUMS, manifest.sums(digest))
    attestation = provenance(
        manifest,
        digest,
        started=started,
        finished=max(started, datetime.now(timezone.utc)),  # a clock may be set back
        builder=builder_of(environ),
        versions=versions(),
    )
    write_file(folder / PROVENANCE, attestation)
    wanted = {file.name for file in manifest.files} | {MANIFEST, SUMS, PROVENANCE}
    for path in folder.iterdir():
        if path.name not in wanted:  # of another recipe, or half a file of a killed build
            remove(path)


def _add_models(draft: _Draft, results: Sequence[JobResult]) -> None:
    """Add the recipe and the files of the models: the weights, and the evidence for them."""
    draft.write(RECIPE, "recipe", draft.recipe.data)
    for result in results:
        for made in result.files:
            draft.add(made.output.file, "weights", made.sha256)
        pairs = [(made.output.part, made.output.format) for made in result.files]
        for name, role in model_files(result.input.model.name, pairs).items():
            if role == "evidence":
                draft.add(name, role, sha256_file(draft.folder / name))


def _write_documents(draft: _Draft) -> None:
    """Write the cards, the parity attestation and the bill of materials."""
    names = {artifact.evidence for model in draft.models for artifact in model.artifacts}
    reports: dict[str, Any] = {
        name: json.loads((draft.folder / name).read_bytes()) for name in sorted(names)
    }
    manifest = draft.manifest()
    for model in draft.models:
        draft.write(model.card, "card", model_card(model, manifest, reports).encode())
    draft.write(README, "card", release_readme(manifest, reports).encode())
    manifest = draft.manifest()
    draft.write(PARITY, "statement", parity_attestation(manifest, reports))
    draft.write(BOM, "bom", bill_of_materials(manifest, reports))


def _model(result: JobResult) -> Model:
    recipe = result.input.model
    main = next(made for made in result.files if made.output == result.input.main)
    return Model(
        name=recipe.name,
        architecture=ARCHITECTURES[result.input.architecture].class_name,
        embedding_size=result.input.dims.get("embedding"),
        classes=result.input.dims.get("classes"),
        image_size=recipe.image_size,
        preprocessing=recipe.preprocessing,
        training_set=recipe.training_set,
        licence=recipe.licence,
        notes=recipe.notes,
        sources=result.input.files,
        artifacts=tuple(
            Artifact(m.output.file, m.output.part, m.output.format, m.tensor_digest, m.report)
            for m in result.files
        ),
        evidence=main.report,
        card=card_file(recipe.name),
    )


def builder_of(environment: Mapping[str, str]) -> Builder:
    """Return the builder of this release: a workflow of GitHub Actions, or `LOCAL_BUILDER`.

    The workflow is named as in GitHub's own attestations. GitHub documents that it sets these
    variables for each step, and that a workflow can't overwrite them:
    https://docs.github.com/en/actions/reference/variables-reference

    Args:
        environment: The environment variables.

    Examples:
        >>> builder_of({}).id
        'facenet-parity:builder/local'
    """
    get = environment.get
    server, repository = get("GITHUB_SERVER_URL"), get("GITHUB_REPOSITORY")
    workflow, run = get("GITHUB_WORKFLOW_REF"), get("GITHUB_RUN_ID")
    if get("GITHUB_ACTIONS") != "true" or not (server and repository and workflow and run):
        return Builder(LOCAL_BUILDER)
    attempt = get("GITHUB_RUN_ATTEMPT", "1")
    commit, ref = get("GITHUB_SHA", ""), get("GITHUB_REF")
    event, runner = get("GITHUB_EVENT_NAME"), get("RUNNER_ENVIRONMENT")  # github- or self-hosted
    parameters = {"event": event, "runner": runner}
    return Builder(
        id=f"{server}/{workflow}",
        invocation=f"{server}/{repository}/actions/runs/{run}/attempts/{attempt}",
        repository=f"git+{server}/{repository}{f'@{ref}' if ref else ''}",
        commit=commit if _COMMIT.fullmatch(commit) else None,
        parameters={name: value for name, value in parameters.items() if value},
    )


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages among `PACKAGES`.

    Examples:
        >>> sorted(versions())[:2]
        ['facenet-parity', 'numpy']
    """
    return {"python": platform.python_version(), **versions_of(PACKAGES)}
