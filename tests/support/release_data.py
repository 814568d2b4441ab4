"""A release as plain data: manifests, reports, and nothing on a disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from facenet_release.documents.manifest import Artifact, File, Manifest, Model, Role, Source
from parity_tests.model import GateResult, ParityReport
from parity_tests.report.json_document import to_json

PNET_REPORT, FACE_REPORT = "pnet.parity.json", "face.parity.json"
MANIFEST_SHA256 = hashlib.sha256(b"the manifest").hexdigest()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def report(name: str) -> ParityReport:
    """A report that passed, with figures such as P-Net's real ones, and a gate left out."""
    gates = (
        GateResult("weights", "passed", "tensors that differ in any bit = 0", 0.0, 0.0, "13 of 13"),
        GateResult(
            "float64",
            "passed",
            "max |TensorFlow - torch|, both in float64 <= 1e-12",
            1e-12,
            1.3322676295501878e-15,
            "the largest difference is 1.3e-15",
            details={"images": 15, "worst": float("nan")},
            seconds=3.13,
        ),
        GateResult("task", "skipped", "not applied", 0.0, float("nan"), "it gives no embeddings"),
    )
    return ParityReport(
        reference="det1.npy",
        candidate=name,
        architecture="pnet",
        dims={},
        gates=gates,
        feeds=("noise [5, 17, 23, 3]: N(0, 1), seed 20180402",),
        environment={"torch": "2.13.0+cpu", "TensorFlow": "2.21.0"},
    )


def as_json(said: ParityReport) -> dict[str, Any]:
    """A report as it is read from a file."""
    return dict(json.loads(json.dumps(to_json(said))))


def evidence() -> dict[str, dict[str, Any]]:
    return {name: as_json(report(name)) for name in (PNET_REPORT, FACE_REPORT)}


PNET = Model(
    name="pnet",
    architecture="PNet",
    embedding_size=None,
    classes=None,
    image_size=(12, 12),
    preprocessing="RGB, (pixel - 127.5) / 128, NCHW",
    training_set="WIDER FACE and CelebA",
    licence="MIT",
    notes="",
    sources=(Source("det1.npy", 27368, sha256(b"det1")),),
    artifacts=tuple(
        Artifact(f"pnet.{kind}", "all", kind, digest, PNET_REPORT)
        for kind, digest in (("onnx", None), ("pt", "1" * 64), ("safetensors", "1" * 64))
    ),
    evidence=PNET_REPORT,
    card="pnet.md",
)
FACE = Model(
    name="face",
    architecture="InceptionResnetV1",
    embedding_size=16,
    classes=7,
    image_size=(80, 80),
    preprocessing="RGB, (pixel - 127.5) / 128, NCHW",
    training_set="VGGFace2",
    licence="The files are under the MIT licence, the photographs are not",
    notes="Made for tests.",
    sources=(Source("model.ckpt.index", 5, sha256(b"1")), Source("model.meta", 6, sha256(b"2"))),
    artifacts=tuple(
        Artifact(f"face{suffix}.{kind}", part, kind, "2" * 64, FACE_REPORT)
        for part, suffix in (("all", ""), ("features", "-features"), ("logits", "-logits"))
        for kind in ("pt", "safetensors")
    ),
    evidence=FACE_REPORT,
    card="face.md",
)


def manifest(*models: Model, contents: Mapping[str, bytes] | None = None) -> Manifest:
    """A release of these models; files that `contents` lacks hold their own names."""
    models = models or (FACE, PNET)
    roles: dict[str, Role] = {"release.toml": "recipe"}
    for model in models:
        roles |= {artifact.file: "weights" for artifact in model.artifacts}
        roles |= {model.evidence: "evidence", model.card: "card"}
    data = {name: (contents or {}).get(name, name.encode()) for name in roles}
    return Manifest(
        name="tiny",
        version="v1.0",
        software="facenet-parity 0.1.0",
        models=models,
        files=tuple(
            File(name, len(data[name]), sha256(data[name]), roles[name]) for name in sorted(roles)
        ),
    )
