"""Whether weight files hold what the manifest says, down to the last bit of each tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from converter.digest import Digest, tensor_sha256
from converter.plan import make_plan
from converter.sources import open_source
from facenet_common.errors import FacenetError
from facenet_common.text import one_line
from facenet_release.building.inputs import CLASSES
from facenet_release.documents.manifest import Artifact, Model

FORMATS = {"torch-zip": "pt", "safetensors": "safetensors"}  # the converter's words, and ours
Hashes = dict[str, str]  # of tensors, by name


class Contents:
    """What weight files were found to hold; each is looked at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tensors: dict[str, Hashes] = {}

    def look(self, model: Model, artifact: Artifact) -> list[str]:
        """What is wrong with one weight file on its own."""
        try:
            if artifact.format == "onnx":
                return [f"{artifact.file}: {p}" for p in self._onnx(model, artifact)]
            return [f"{artifact.file}: {p}" for p in self._weights(model, artifact)]
        except FacenetError as error:
            return [f"{artifact.file}: {one_line(error)}"]

    def compare(self, model: Model) -> Iterator[str]:
        """Where the files of a model, each looked at already, don't hold the same weights."""
        first: dict[str, tuple[str, Hashes]] = {}
        for artifact in model.artifacts:
            found = self._tensors.get(artifact.file)
            if found is None:
                continue
            name, expected = first.setdefault(artifact.part, (artifact.file, found))
            if found != expected:
                yield f"{artifact.file}: not the weights that {name} has"
        whole = first.get("all")
        if whole is None:
            return
        for part, (name, found) in first.items():
            if any(whole[1].get(tensor) != sha256 for tensor, sha256 in found.items()):
                yield f"{name}: not the weights that {whole[0]} has"
            if part != "all" and len(found) == len(whole[1]):
                yield f"{name}: all of {whole[0]}, not {part} alone"

    def _weights(self, model: Model, artifact: Artifact) -> Iterator[str]:
        catalog = open_source(self._folder / artifact.file)
        if FORMATS.get(catalog.format) != artifact.format:
            yield f"{catalog.format}, not {artifact.format}"
            return
        plan = make_plan(catalog, to="tensorflow")
        yield from _misfits(model, plan.architecture.name, plan.dims, artifact)
        digest, hashes = Digest(), {}
        for ref in catalog.values():
            hashes[ref.name] = tensor_sha256(ref.load())
            digest.add(ref, hashes[ref.name])
            catalog.release(ref.nbytes)
        self._tensors[artifact.file] = hashes
        found = digest.hexdigest()
        if found != artifact.tensor_digest:
            yield f"tensor digest {artifact.tensor_digest} was expected, is {found}"

    def _onnx(self, model: Model, artifact: Artifact) -> Iterator[str]:
        if artifact.tensor_digest is not None:
            yield "a tensor digest, which ONNX files don't have"
        if find_spec("onnx") is None:
            return  # its hash was right; what it holds can't be seen without that package
        from parity_tests.candidate.onnx_runner import onnx_facts

        architecture, dims = onnx_facts(self._folder / artifact.file)
        yield from _misfits(model, architecture, dims, artifact)


def _misfits(
    model: Model, architecture: str, dims: Mapping[str, int], artifact: Artifact
) -> Iterator[str]:
    if CLASSES[architecture] != model.architecture:
        yield f"{CLASSES[architecture]}, not {model.architecture}"
    # The classifier's size is that of one part, the embedding's is in every part.
    classes = None if artifact.part == "features" else model.classes
    for dim, size in (("embedding", model.embedding_size), ("classes", classes)):
        found = dims.get(dim)
        if found != size and not (found is None and artifact.format == "onnx"):
            yield f"{dim} {size} was expected, is {found}"
