"""Networks get their weights from a loader that the package sets; they import none themselves."""

from __future__ import annotations

import ast
import pickle
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the networks need torch")

import torch

import facenet_models
from facenet_models import InceptionResnetV1
from facenet_models.networks import inception_resnet_v1, pretrained

ROOT = Path(facenet_models.__file__).parent


def imported_by(path: Path) -> set[str]:
    """The modules of facenet_models that one of them imports, in functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.startswith("facenet_models.")}


def graph(*folders: str) -> dict[str, set[str]]:
    """Each module in these folders, with those that it imports."""
    paths = {
        f"facenet_models.{folder}.{path.stem}".removesuffix(".__init__"): path
        for folder in folders
        for path in (ROOT / folder).glob("*.py")
    }
    return {name: imported_by(path) & paths.keys() for name, path in paths.items()}


def test_networks_and_weights_import_each_other_one_way() -> None:
    edges = graph("networks", "weights")
    assert "facenet_models.networks.architectures" in edges["facenet_models.weights.pretrained"]
    for name, imported in edges.items():
        if name.startswith("facenet_models.networks"):
            assert not any(other.startswith("facenet_models.weights") for other in imported), name
    order = list(TopologicalSorter(edges).static_order())  # CycleError if there is a circle
    assert len(order) == len(edges)


@pytest.mark.parametrize("name", ["inception_resnet_v1", "mtcnn", "architectures"])
def test_networks_open_nothing(name: str) -> None:
    imported = imported_by(ROOT / "networks" / f"{name}.py")
    assert all(other.startswith("facenet_models.networks") for other in imported)


def test_the_loader_gives_the_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state = InceptionResnetV1(num_classes=3, embedding_size=8).state_dict()
    asked = []

    def loader(name: object, architecture: str) -> pretrained.Loaded:
        asked.append((name, architecture))
        return pretrained.Loaded(state, tmp_path / "x.pt")

    monkeypatch.setattr(pretrained, "_loader", loader)
    model = InceptionResnetV1("mine")
    assert asked == [("mine", inception_resnet_v1.NAME)]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_models_are_pickled_under_the_name_of_their_class() -> None:
    model = InceptionResnetV1(embedding_size=8)
    copy = pickle.loads(pickle.dumps(model))
    assert type(copy) is InceptionResnetV1
    assert type(copy).__name__ == inception_resnet_v1.NAME
    assert all(
        torch.equal(a, b) for a, b in zip(copy.parameters(), model.parameters(), strict=True)
    )
