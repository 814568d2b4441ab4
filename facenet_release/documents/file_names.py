"""What the files of a release are called, and what each is for."""

from __future__ import annotations

from collections.abc import Iterable

from facenet_release.documents.manifest import Role


def weights(model: str, part: str, form: str) -> str:
    """As people know them: NAME.pt, NAME-features.pt, NAME-logits.safetensors, …"""
    stem = model if part == "all" else f"{model}-{part}"
    return f"{stem}.{form}"


def report(model: str, form: str) -> str:
    """The parity report, as data. An ONNX file has its own; all others share the model's."""
    return f"{model}.onnx.parity.json" if form == "onnx" else f"{model}.parity.json"


def page(report: str) -> str:
    """The same report, to read."""
    return report.removesuffix(".json") + ".html"


def conversion(model: str) -> str:
    """What the conversion did."""
    return f"{model}.conversion.json"


def card(model: str) -> str:
    """The model card."""
    return f"{model}.md"


def of_model(model: str, weight_files: Iterable[tuple[str, str]]) -> dict[str, Role]:
    """All files of a model, given the part and the format of each of its weight files."""
    roles: dict[str, Role] = {conversion(model): "evidence", card(model): "card"}
    for part, form in weight_files:
        roles[weights(model, part, form)] = "weights"
        roles[report(model, form)] = "evidence"
        roles[page(report(model, form))] = "evidence"
    return roles
