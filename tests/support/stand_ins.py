"""A folder of weights as FACENET_WEIGHTS names it, for tests that need every network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def stand_in_weights(
    reference_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """MTCNN's real weights, and stand-ins for both published InceptionResnetV1: 200 MB, made once.

    The stand-ins are seeded and untrained. Names, shapes and file names are the published ones'.
    Tests only read them.
    """
    torch = pytest.importorskip("torch", reason="the networks need torch")
    from facenet_models import InceptionResnetV1
    from facenet_models.weights.registry import Pretrained

    folder = tmp_path_factory.mktemp("weights")
    for net in ("pnet", "rnet", "onet"):
        (folder / f"{net}.pt").symlink_to(reference_dir / "published" / f"{net}.pt")
    torch.manual_seed(20180402)
    for entry in (Pretrained.VGGFACE2.value, Pretrained.CASIA_WEBFACE.value):
        torch.save(InceptionResnetV1(num_classes=entry.classes).state_dict(), folder / entry.file)
    before = _written(folder)
    yield folder
    assert _written(folder) == before, "a test has written to the weights that all tests share"


def _written(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
